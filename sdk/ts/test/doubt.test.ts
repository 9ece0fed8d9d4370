// What was opened in doubt: who may take it, and that it is not left open. What is
// said meanwhile is in dialogues/doubt.txt.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decode, encode, Splitter } from '../src/codec/frame.js';
import { LinkWay } from '../src/linkway.js';
import type { CarrierEvents, Connection, Owner } from '../src/way.js';
import { VirtualClock } from './support/time.js';

/** A way whose carriers open at once. */
class Lines {
  readonly clock = new VirtualClock();
  readonly lines: { on: CarrierEvents; open: boolean; said: string[] }[] = [];
  ends = 0;
  readonly way = new LinkWay('tcp', {
    clock: this.clock, prefix: 'k', agent: '', maxMessage: 1 << 20,
    dial: (on) => {
      const line = { on, open: true, said: [] as string[] };
      this.lines.push(line);
      queueMicrotask(() => line.open && on.open());
      const send = (bytes: Uint8Array) => {
        const s = new Splitter(1 << 20);
        s.push(bytes);
        for (let raw = s.next(); raw; raw = s.next()) line.said.push(decode(raw).type);
      };
      return { send, close: () => (line.open = false) };
    },
  });

  /** Connects, and has the next heartbeat not be answered. */
  async dies(network: string): Promise<void> {
    this.#open(network);
    await this.clock.pass(0);
    this.lines[0]!.on.data(encode({ type: 'welcome', major: 1, minor: 0, interval: 60_000 }));
    await this.clock.pass(61_500);
    assert.equal(this.ends, 1);
  }

  #open(network: string): Connection {
    const owner = new Proxy({} as Owner, { get: (_, name) => (name === 'ended' ? () => this.ends++ : () => undefined) });
    return this.way.open({ user: 'alice', password: 'secret', network }, owner);
  }

  async opens(network: string): Promise<Connection> {
    const c = this.#open(network);
    await this.clock.pass(0);
    return c;
  }
}

test('who connects again takes what was opened in doubt, on the same network and soon', async () => {
  for (const [after, network, said] of [
    [0, 'lte', [[['hello', 'ping'], false], [['hello'], true]]],
    [0, 'wifi', [[['hello', 'ping'], false], [[], false], [['hello'], true]]],
    [5000, 'lte', [[['hello', 'ping'], false], [[], false], [['hello'], true]]],
  ] as const) {
    const w = new Lines();
    await w.dies('lte');
    await w.clock.pass(after);
    const c = await w.opens(network);
    assert.deepEqual(w.lines.map((l) => [l.said, l.open]), said, `${network} after ${after} ms`);
    c.drop();
    assert.ok(w.lines.every((l) => !l.open));
  }
});

test('what was opened in doubt has ended before it is wanted', async () => {
  const w = new Lines();
  await w.dies('lte');
  w.lines[1]!.on.closed('the server is tired of waiting');
  const c = await w.opens('lte');
  assert.deepEqual(w.lines.map((l) => l.said), [['hello', 'ping'], [], ['hello']]);
  c.drop();
});
