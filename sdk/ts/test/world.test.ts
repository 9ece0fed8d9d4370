// Worlds that chance has made, in which the Go SDK has run before: see
// client/world_test.go, which says what may stand in a line. This one says the
// same at the same millisecond.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Client } from '../src/client.js';
import { capProbe } from '../src/codec/fields.js';
import { decode, encode, type Frame, Splitter } from '../src/codec/frame.js';
import { duration } from '../src/codec/text.js';
import { LinkWay } from '../src/linkway.js';
import { memoryStore } from '../src/store/memory.js';
import type { Carrier, CarrierEvents } from '../src/way.js';
import { millis } from './support/parse.js';
import { here } from './support/paths.js';
import { VirtualClock } from './support/time.js';

/** The server's end of a connection. */
class Peer implements Carrier {
  readonly #w: World;
  readonly #n: number;
  readonly #on: CarrierEvents;
  readonly #in = new Splitter(1 << 20);
  #last: number; // when a packet passed the NAT
  gone = false;
  #closed = false;

  constructor(w: World, n: number, on: CarrierEvents) {
    this.#w = w;
    this.#n = n;
    this.#on = on;
    this.#last = w.clock.now();
    queueMicrotask(() => this.#closed || on.open());
  }

  send(bytes: Uint8Array): void {
    this.#in.push(bytes.slice());
    for (let raw = this.#in.next(); raw && !this.#closed; raw = this.#in.next()) {
      const answer = this.#hear(decode(raw));
      // There and back takes a time of its own on each connection.
      if (answer) this.#w.clock.timer(10 + ((this.#n * 7) % 31), () => this.#closed || this.#on.data(encode(answer)));
    }
  }

  close(): void {
    this.#closed = true;
  }

  #hear(f: Frame): Frame | undefined {
    const w = this.#w;
    this.gone ||= w.clock.now() - this.#last >= w.forgets;
    const lost = this.gone || w.outage;
    this.#note(f, lost ? ' lost' : '');
    if (lost) {
      if (!this.gone || !w.resets || w.outage) return undefined;
      this.#closed = true;
      queueMicrotask(() => this.#on.closed('reset', true));
      return undefined;
    }
    this.#last = w.clock.now();
    switch (f.type) {
      case 'hello':
        if (f.probe) return { type: 'welcome', major: 1, minor: 0, interval: f.probe, caps: capProbe };
        return {
          type: 'welcome', major: 1, minor: 0, address: 'alice@localhost', device: 'phone', interval: f.interval ?? 60_000, maxFrame: 1 << 16, inflight: 100,
          caps: capProbe, good: w.prior[0], bad: w.prior[1],
        };
      case 'ping':
        return { type: 'pong', payload: f.payload };
      case 'set':
        return f.interval ? { type: 'set', interval: f.interval } : undefined;
    }
    return undefined;
  }

  #note(f: Frame, lost: string): void {
    const value = (name: string, ms: number | undefined) => (ms ? ` ${name}=${duration(ms)}` : '');
    let said: string;
    if (f.type === 'hello') {
      said = `HELLO${f.network ? ` network=${f.network}` : ''}${value('interval', f.interval)}${value('probe', f.probe)}${value('good', f.good)}${value('bad', f.bad)}`;
    } else if (f.type === 'set') {
      said = `SET${value('interval', f.interval)}${value('good', f.good)}${value('bad', f.bad)}`;
    } else if (f.type === 'ping' && lost) {
      said = 'PING';
    } else {
      return;
    }
    this.#w.journal.push({ at: this.#w.clock.now() - this.#w.begun, n: this.#n, said: said + lost });
  }
}

/** A network with a NAT, and a server behind it, in which a program runs. */
class World {
  readonly clock = new VirtualClock();
  readonly begun = this.clock.now();
  forgets = Infinity;
  resets = false;
  outage = false;
  prior: [number, number] = [0, 0];
  journal: { at: number; n: number; said: string }[] = [];
  #peers: Peer[] = [];
  #store = memoryStore();
  #client: Client | undefined;
  #network = '';
  #runs = 0;

  async play(line: string): Promise<void> {
    const [verb = '', ...rest] = line.split(' ');
    switch (verb) {
      case 'nat':
        [this.forgets, this.resets] = [millis(rest[0]!), rest[1] === 'reset'];
        return;
      case 'forget':
        for (const p of this.#peers) p.gone = true;
        return;
      case 'outage':
      case 'there':
        this.outage = verb === 'outage';
        return;
      case 'prior':
        this.prior = rest[0]!.split(',').map(millis) as [number, number];
        return;
      case 'begin':
        this.#network = rest[0]!;
        this.#run();
        break;
      case 'restart':
        await this.close();
        this.#run();
        break;
      case 'network':
        this.#network = rest[0]!;
        this.#client!.networkChanged(this.#network);
        break;
      case 'background':
      case 'foreground':
        this.#client!.setBackground(verb === 'background');
        break;
      case '~':
        await this.clock.pass(millis(rest[0]!));
        break;
      default:
        throw new Error(`what is ${line}?`);
    }
    await this.clock.pass(0);
  }

  #run(): void {
    const prefix = 'k'.repeat(++this.#runs);
    const dial = (on: CarrierEvents): Carrier => {
      if (this.outage) {
        queueMicrotask(() => on.closed('refused'));
        return { send: () => {}, close: () => {} };
      }
      const p = new Peer(this, this.#peers.length + 1, on);
      this.#peers.push(p);
      return p;
    };
    this.#client = new Client(
      { credentials: { user: 'alice', password: 'secret' }, device: 'phone', network: this.#network, store: this.#store, trace: undefined },
      { ways: [new LinkWay('websocket', { clock: this.clock, prefix, agent: '', maxMessage: 1 << 20, dial })], clock: this.clock, random: () => 0.5, prefix },
    );
  }

  async close(): Promise<void> {
    await this.#client?.close();
  }

  /** What the program has said since the last time, by time and connection. */
  said(): string[] {
    return this.journal.splice(0).sort((a, b) => a.at - b.at || a.n - b.n).map(({ at, n, said }) => `= ${duration(at)} ${n} ${said}`);
  }
}

const [, ...worlds] = readFileSync(join(here, 'test', 'worlds.txt'), 'utf8').split(/^# World .*\n/m);
for (const [i, text] of worlds.entries()) {
  test(`world ${i}`, async () => {
    const w = new World();
    const lines = text.split('\n').filter((l) => l !== '');
    for (let at = 0; at < lines.length; ) {
      const event = lines[at++]!;
      await w.play(event);
      const want: string[] = [];
      while (lines[at]?.startsWith('= ')) want.push(lines[at++]!);
      assert.deepEqual(w.said(), want, event);
    }
    await w.close();
  });
}
