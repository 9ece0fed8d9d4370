// Runs a dialogue with a client in virtual time. A line is one of
//
//	! connect user=alice …     a client with these options begins; ways=2 has a second way
//	! open, ! refuse           the network opens the connection that is being dialled, or does not
//	! drop, ! reset            the network closes it; or answers with a reset
//	! at 2                     what follows is about the second connection that was dialled
//	! answer 1                 from now on the server answers each PING and SET on the first by itself
//	! deaf 1                   and from now on it does not: nothing gets there any more
//	C: HELLO …                 the next that the client says to the server
//	C: (quiet), C: (closed)    it says nothing, or has closed the connection
//	S: WELCOME …               what the server says; S# is bytes
//	! send bob hello id=m1     the application sends; also type= expires= urgency= attr=
//	* message 3 bob@… :hi      the next that the application is told
//	* (nothing)
//	! signal bob composing     the application says something of the moment; ! show bob, ! hide bob
//	! online bob@… true        whether the application may know that he is
//	! devices, ! forget old    it asks for its devices
//	! slow, ! done, ! fail     the handler takes its time until done; or throws, once
//	! network wifi, ! background, ! foreground, ! close
//	! restart                  the program ends at once and begins again with the same store
//	~ 5m                       time passes

import assert from 'node:assert/strict';
import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { Client } from '../../src/client.js';
import type { Credentials } from '../../src/credentials.js';
import { decode, encode, Splitter } from '../../src/codec/frame.js';
import { duration, format, hex } from '../../src/codec/text.js';
import type { Urgency } from '../../src/codec/codes.js';
import { LinkWay } from '../../src/linkway.js';
import { memoryStore } from '../../src/store/memory.js';
import type { CarrierEvents } from '../../src/way.js';
import type { ClientOptions } from '../../src/world.js';
import { millis, parse, unhex } from './parse.js';
import { settle, VirtualClock } from './time.js';

/** The server's end of one connection. */
class End {
  readonly on: CarrierEvents;
  readonly way: string;
  readonly #in = new Splitter(1 << 24);
  readonly said: string[] = [];
  open = false;
  closed = false;
  answers = false;

  constructor(on: CarrierEvents, way: string) {
    this.on = on;
    this.way = way;
  }

  take(bytes: Uint8Array): void {
    this.#in.push(bytes.slice());
    for (let raw = this.#in.next(); raw; raw = this.#in.next()) {
      const f = decode(raw);
      if (f.type === 'ping' && this.answers) {
        this.on.data(encode({ type: 'pong', payload: f.payload }));
        continue;
      }
      if (f.type === 'set' && this.answers && f.interval) queueMicrotask(() => this.on.data(encode({ type: 'set', interval: f.interval! })));
      // A dialogue is to show the secrets that it was given.
      if (f.type === 'hello' || f.type === 'set') {
        const { token, ...rest } = f;
        let line = format('password' in rest ? { ...rest, password: '' } : rest, raw.ack);
        if ('password' in f && f.password) line = line.replace(/( user=\S+)/, `$1 password=${f.password}`);
        this.said.push(token === undefined ? line : line.replace(/^(HELLO 1\.0|SET)/, `$1 token=${token}`));
      } else if (f.type === 'send' && f.deflated > 0) {
        const body = inflateRawSync(f.body); // which bytes they are is for each platform to say
        assert.equal(body.length, f.deflated);
        this.said.push(format({ ...f, body }, raw.ack));
      } else {
        assert.equal(hex(encode(f, raw.ack)).length > 0, true);
        this.said.push(format(f, raw.ack));
      }
    }
  }
}

export class Stage {
  readonly #clock = new VirtualClock();
  readonly #store = memoryStore();
  readonly #told: string[] = [];
  #client: Client | undefined;
  #ends: End[] = [];
  #at = 0; // the number of the connection that the dialogue is about; zero is the last
  #programs = 0;
  #options: Record<string, string> = {};
  #slow = false;
  #fail = false;
  #done: (() => void) | undefined;
  #tokens = 0;

  async run(text: string): Promise<void> {
    const lines = text.split('\n');
    for (const [i, line] of lines.entries()) {
      if (line.trim() === '' || line.startsWith('#')) continue;
      try {
        await this.#line(line.trim());
      } catch (e) {
        const { actual, message } = e as Error & { actual?: unknown };
        throw new Error(`line ${i + 1}: ${line}: ${actual === undefined ? message : `got ${String(actual)}`}`, { cause: e });
      }
      await settle();
    }
    assert.deepEqual(this.#told, [], 'told and not in the dialogue');
    assert.deepEqual(this.#end?.said ?? [], [], 'said and not in the dialogue');
    await this.#client?.close();
  }

  get #end(): End | undefined {
    return this.#ends.at(this.#at - 1);
  }

  async #line(line: string): Promise<void> {
    const [verb, rest] = cut(line);
    switch (verb) {
      case '~':
        return this.#clock.pass(millis(rest));
      case 'C:':
        return assert.equal(this.#end?.said.shift() ?? (this.#end?.closed ? '(closed)' : '(quiet)'), rest);
      case 'S:': {
        const { frame, ack } = parse(rest);
        return this.#end!.on.data(encode(frame, ack));
      }
      case 'S#':
        return this.#end!.on.data(unhex(rest));
      case '*':
        return assert.equal(this.#told.shift() ?? '(nothing)', rest);
      case '!':
        return this.#do(rest);
    }
    throw new Error('cannot read this line');
  }

  async #do(text: string): Promise<void> {
    const [what, rest] = cut(text);
    switch (what) {
      case 'connect':
        this.#options = Object.fromEntries(rest.split(' ').filter(Boolean).map((w) => w.split('=') as [string, string]));
        return this.#connect();
      case 'open':
        this.#end!.open = true;
        return this.#end!.on.open();
      case 'refuse':
      case 'drop':
      case 'reset':
        this.#end!.closed = true;
        return this.#end!.on.closed(what, what === 'reset');
      case 'send':
        return this.#send(rest);
      case 'signal': {
        const [to, words] = cut(rest);
        const [kind, data] = cut(words);
        this.#client!.signal(to, kind, new TextEncoder().encode(data));
        return;
      }
      case 'show':
        return this.#client!.show(rest);
      case 'hide':
        return this.#client!.hide(rest);
      case 'online': {
        const [who, is] = cut(rest);
        return assert.equal(String(this.#client!.isOnline(who)), is);
      }
      case 'devices':
      case 'forget':
        void (what === 'devices' ? this.#client!.devices() : this.#client!.forget(rest)).then(
          (list) => this.#told.push(`devices ${list.map((d) => `${d.name} ${d.way || '-'} ${d.behind}`).join('; ')}`),
          (e: Error) => this.#told.push(`devices ${e.name}`),
        );
        return;
      case 'slow':
        this.#slow = true;
        return;
      case 'done':
        this.#slow = false;
        return this.#done?.();
      case 'fail':
        this.#fail = true;
        return;
      case 'network':
        return this.#client!.networkChanged(rest || undefined);
      case 'background':
      case 'foreground':
        return this.#client!.setBackground(what === 'background');
      case 'close':
        return this.#client!.close();
      case 'restart':
        this.#told.length = 0;
        this.#ends = [];
        this.#at = 0;
        return this.#connect();
      case 'pending':
        return assert.equal(this.#client!.pending, Number(rest));
      case 'at':
        this.#at = Number(rest);
        return assert.ok(this.#end, 'it was not dialled');
      case 'answer':
      case 'deaf':
        this.#ends[Number(rest) - 1]!.answers = what === 'answer';
        return;
      case 'dials':
        return assert.equal(this.#ends.length, Number(rest));
    }
    throw new Error(`cannot do ${what}`);
  }

  #connect(): void {
    const o = this.#options;
    const program = ++this.#programs;
    const live = () => program === this.#programs;
    const prefix = 'k'.repeat(program);
    const way = (name: 'tcp' | 'websocket') =>
      new LinkWay(name, {
        clock: this.#clock, prefix, agent: '', maxMessage: 1 << 20,
        deflate: (data) => Promise.resolve(deflateRawSync(data)),
        dial: (on) => {
          const end = new End(on, name);
          if (live()) this.#ends.push(end);
          return { send: (bytes) => live() && end.take(bytes), close: () => (end.closed = true) };
        },
      });
    const credentials: Credentials =
      o['token'] === 'fresh' ? { token: () => Promise.resolve(`t${++this.#tokens}`) }
      : o['token'] !== undefined ? { token: o['token'] }
      : { user: o['user'] ?? '', password: o['password'] ?? '' };
    const options: ClientOptions = {
      credentials, device: o['device'] ?? '', network: o['network'] ?? '', store: this.#store, trace: undefined, showTo: (a) => a === o['shows'],
      ...(o['hold'] === undefined ? {} : { hold: millis(o['hold']) }), holdNormal: o['normal'] === '1',
    };
    const c = new Client(options, {
      ways: o['ways'] === '2' ? [way('tcp'), way('websocket')] : [way('websocket')], clock: this.#clock, random: () => 0.5, prefix,
    });
    this.#client = c;
    const tell = (s: string) => live() && this.#told.push(s);
    c.onMessage(async (m) => {
      if (!live()) return new Promise(() => {});
      if (this.#fail) {
        this.#fail = false;
        throw new Error('disk full');
      }
      const extra = [m.type === 'text/plain; charset=utf-8' ? '' : ` type=${m.type}`, m.urgency === 'normal' ? '' : ` urgency=${m.urgency}`];
      tell(`message ${m.seq} ${m.from}${m.left > 0 ? ` left=${m.left}` : ''}${extra.join('')} :${m.body}`);
      if (this.#slow) await new Promise<void>((resolve) => (this.#done = resolve));
    });
    c.on('stored', (r) => tell(`stored ${r.id} ${r.seq}${r.duplicate ? ' duplicate' : ''}`));
    c.on('refused', (e) => tell(`refused ${e.id} ${e.code}`));
    c.on('signal', (s) => tell(`signal ${s.from}/${s.device} ${s.kind}${s.data.length > 0 ? ` :${new TextDecoder().decode(s.data)}` : ''}`));
    c.on('gap', (g) => tell(`gap after ${g.after} before ${g.before}`));
    c.on('error', (e) => tell(`error ${e instanceof Error ? e.message : String(e)}`));
    c.on('state', (s) => {
      if (s.state === 'online') tell(`online ${s.way}`);
      if (s.state === 'waiting') tell(`waiting ${duration(s.again ?? 0)} ${s.reason?.code}`);
      if (s.state === 'closed') tell(`closed ${s.reason?.code}`);
    });
  }

  #send(rest: string): void {
    const [to, text] = cut(rest);
    const words = text.split(' ');
    const option = (name: string): string | undefined => {
      const i = words.findIndex((w) => w.startsWith(name + '='));
      return i < 0 ? undefined : words.splice(i, 1)[0]!.slice(name.length + 1);
    };
    const id = option('id'), type = option('type'), expires = option('expires'), urgency = option('urgency');
    this.#client!.send({
      to, body: words.join(' '), ...(id ? { id } : {}), ...(type ? { type } : {}), ...(urgency ? { urgency: urgency as Urgency } : {}),
      ...(expires ? { expires: millis(expires) } : {}),
    }).catch(() => {}); // the event says it
  }
}

function cut(s: string): [string, string] {
  const i = s.indexOf(' ');
  return i < 0 ? [s, ''] : [s.slice(0, i), s.slice(i + 1).trim()];
}
