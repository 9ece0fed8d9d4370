// One connection as a state machine, without I/O and without a clock: bytes and
// the time go in, bytes and events come out.

import { ProtocolError } from './codec/bytes.js';
import { capDeflate, capDevices, capSignals, type Close, type Hello, version, type Welcome } from './codec/fields.js';
import { decode, encode, type Frame, type Raw, Splitter } from './codec/frame.js';
import { newSend } from './codec/message.js';
import type { DeviceList } from './codec/device.js';
import { fits } from './codec/signal.js';
import { type Delivered, maxPeers, MsgReader, SendWriter } from './codec/stream.js';
import { format } from './codec/text.js';
import type { Pace } from './pace.js';
import type { Entry } from './store/store.js';
import { type Change, type End, lost } from './way.js';

export interface SessionEvents {
  welcomed(w: Welcome): void;
  message(m: Delivered): void;
  /** Everything up to here will not come. */
  trimmed(place: number): void;
  stored(e: Entry, seq: number, duplicate: boolean): void;
  refused(e: Entry, code: string, text: string): void;
  survived(silence: number): void;
  /** The answer to a heartbeat is overdue; or has come, later than that. */
  doubted(yes: boolean): void;
  renewed(expires: number): void;
  devices(list: DeviceList['devices']): void;
  signalled(from: string, device: string, kind: string, body: Uint8Array): void;
  ended(end: End): void;
  trace(line: () => string): void;
}

export interface SessionOptions {
  hello: Omit<Hello, 'type' | 'major' | 'minor'>;
  /** The longest payload to take, in bytes. */
  maxFrame: number;
  /** What is known of how soon the server answers. */
  pace: Pace;
  /** How long to wait for the welcome, in milliseconds. */
  welcomeTime?: number | undefined;
}

const welcomeTime = 15_000; // from the beginning to the welcome, unless the options say otherwise
const unanswered = 5_000; // a send or a question without a byte from the server, before a heartbeat asks
const ackEvery = 64; // places, while more are being handled
const ackTime = 1000; // or so many milliseconds
const shortestInterval = 1000;
const awake = 2000; // a radio stays awake after a packet, at least
const hiccup = 1000; // a timer that rings later than that says that the page or the machine slept

export class Session {
  readonly #o: SessionOptions;
  readonly #on: SessionEvents;
  readonly #in: Splitter;
  #out: Uint8Array[] = [];
  #state: 'new' | 'greeting' | 'welcomed' | 'ended' = 'new';
  #welcome: Welcome | undefined;
  #reader: MsgReader | undefined;
  #writer: SendWriter | undefined;

  #asks: string[] = []; // questions for devices; the first one has been written
  #sent: Entry[] = []; // not answered, oldest first
  #told = 0; // the place that Stored told last
  #brought = 0; // the place of the last message on this connection
  #handled = 0; // the place that the application has handled
  #acked = 0; // the place acknowledged on this connection
  #ackedAt = 0;

  #opened = 0; // when HELLO was said
  #interval = 0;
  #read = 0; // when bytes came last
  #wrote = 0; // when bytes went last
  #asked = Infinity; // when the oldest send or question that is not answered was written, or bytes came after that
  #fed = false; // something came behind the welcome
  #pinged = Infinity; // when a heartbeat went out that no byte has followed
  #doubted = false; // that one will
  #due = false; // it was due, and the silence before it as long as was agreed
  #quiet = 0; // the silence before what was written and not answered yet; zero says nothing
  #late = false; // it was longer than was agreed, because a timer was late
  #background = false;
  #until = 0; // when the welcome, or the answer to a heartbeat, must be there
  #forgiven = false; // that it was not

  constructor(o: SessionOptions, on: SessionEvents) {
    this.#o = o;
    this.#on = on;
    this.#in = new Splitter(Math.max(o.maxFrame, 64 << 10));
  }

  /** What is to be written now. */
  output(): Uint8Array | undefined {
    const parts = this.#out;
    if (parts.length < 2) {
      this.#out = [];
      return parts[0];
    }
    this.#out = [];
    const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
      all.set(p, at);
      at += p.length;
    }
    return all;
  }

  /** When tick is to be called; Infinity if it need not be. */
  get deadline(): number {
    switch (this.#state) {
      case 'new':
      case 'ended':
        return Infinity;
      case 'greeting':
        return this.#until;
      case 'welcomed':
        if (this.#pinged === Infinity) return this.#beatDue();
        return this.#doubted ? this.#until : Math.min(this.#until, this.#pinged + this.#o.pace.doubt);
    }
  }

  /** Messages that were sent and not answered. */
  get unanswered(): Entry[] {
    return this.#sent;
  }

  /** The connection is open: say hello. */
  open(now: number): void {
    this.#state = 'greeting';
    this.#opened = now;
    this.#await(this.#o.welcomeTime ?? welcomeTime, now);
    this.#write({ type: 'hello', ...version, ...this.#o.hello, maxFrame: this.#o.maxFrame }, now);
  }

  /** Bytes came, in pieces of any size. They are kept until the next call. */
  receive(bytes: Uint8Array, now: number): void {
    if (this.#state === 'ended' || bytes.length === 0) return;
    this.#read = now;
    if (this.#state === 'welcomed') {
      this.#fed = true;
      this.#o.pace.deaf = false;
    }
    if (this.#pinged !== Infinity) {
      this.#o.pace.answered(now - this.#pinged);
      this.#o.pace.late = 0;
      this.#pinged = Infinity;
      if (this.#doubted) this.#on.doubted((this.#doubted = false));
    }
    if (this.#quiet > 0) this.#on.survived(this.#quiet);
    this.#quiet = 0;
    if (this.#asked !== Infinity) this.#asked = now;
    try {
      this.#in.push(bytes);
      for (let raw = this.#in.next(); raw && this.#live; raw = this.#in.next()) this.#frame(raw, now);
      // Brought again, and handled before: nobody will say so once more.
      if (this.#state === 'welcomed' && this.#handled >= this.#brought) this.#acknowledge(now);
    } catch (e) {
      if (!(e instanceof ProtocolError)) throw e;
      this.#write({ type: 'close', code: e.code, text: e.message }, now);
      this.#end(lost(e.message));
    }
  }

  get #live(): boolean {
    return this.#state !== 'ended';
  }

  /** The network has closed the connection. */
  closed(why: string): void {
    if (this.#live) this.#end(lost(why));
  }

  /** Time has passed. */
  tick(now: number): void {
    const late = now - this.deadline;
    if (late < 0) return;
    if (this.#state === 'welcomed' && this.#pinged === Infinity) {
      this.#ping(this.#o.pace.dead, now);
      return;
    }
    if (this.#state === 'welcomed' && !this.#doubted) this.#on.doubted((this.#doubted = true));
    if (now < this.#until) return;
    if (late > hiccup && !this.#forgiven) {
      this.#until = now + hiccup; // what came meanwhile is still to be read
      this.#forgiven = true;
    } else {
      this.#end(this.#state === 'greeting' ? lost('no welcome in time') : this.#unheard());
    }
  }

  #await(patience: number, now: number): void {
    this.#until = now + patience;
    this.#forgiven = false;
  }

  #unheard(): End {
    this.#o.pace.late++;
    this.#o.pace.deaf = !this.#fed;
    const end: End = { ...lost('a heartbeat was not answered'), unheard: true, due: this.#due };
    // That a longer silence than was agreed was not survived says nothing.
    return this.#late || this.#quiet === 0 ? end : { ...end, silence: this.#quiet };
  }

  /** When bytes came last. */
  get heard(): number {
    return this.#read;
  }

  /** Somebody looks at us: sends a heartbeat, which must be answered as soon as any, and within patience. */
  check(patience: number, now: number): void {
    if (this.#state !== 'welcomed') return;
    if (this.#pinged === Infinity) this.#ping(Math.min(this.#o.pace.dead, patience), now);
    else this.#until = Math.min(this.#until, now + patience);
  }

  #ping(patience: number, now: number): void {
    const silence = now - Math.max(this.#read, this.#wrote);
    this.#due = silence >= this.#interval * 0.9 && silence <= this.#interval * 1.1;
    this.#write({ type: 'ping', payload: new Uint8Array(0) }, now);
    this.#pinged = now;
    this.#await(patience, now);
  }

  /** In the background a heartbeat that is half due goes along with what has just woken the radio. */
  along(now: number): void {
    if (!this.#background || this.#state !== 'welcomed' || this.#pinged !== Infinity) return;
    const [first, last] = this.#read < this.#wrote ? [this.#read, this.#wrote] : [this.#wrote, this.#read];
    if (now - last < awake && now - first >= this.#interval / 2) this.#ping(this.#o.pace.dead, now);
  }

  /** Takes note that bytes go out, and of the silence before. */
  #spoke(now: number): void {
    const silence = now - Math.max(this.#read, this.#wrote);
    // If only one side spoke of late it depends on the NAT whether that counted.
    if (this.#quiet === 0 && Math.abs(this.#read - this.#wrote) <= awake) {
      this.#quiet = Math.min(silence, this.#interval);
      this.#late = silence > this.#interval * 1.1;
    }
    this.#wrote = now;
  }

  /** How many more messages may be sent now. */
  get room(): number {
    return this.#state === 'welcomed' ? Math.max(this.#welcome!.inflight ?? 0, 1) - this.#sent.length : 0;
  }

  /** Whether bodies may be deflated. */
  get deflates(): boolean {
    return ((this.#welcome?.caps ?? 0) & capDeflate) !== 0;
  }

  /** Sends a message, its body as packed if that is given: deflated. */
  send(e: Entry, now: number, packed?: Uint8Array): void {
    const w = this.#welcome!;
    const f = { ...newSend({ n: 0 }), media: e.type, urgency: e.urgency, attrs: e.attrs, body: packed ?? e.data, deflated: packed ? e.data.length : 0 };
    const most = w.maxFrame ?? Infinity;
    if (atMost(e) > most && encode({ ...f, to: { n: maxPeers, define: { address: e.to, device: '', prefix: '' } }, id: e.id }).length > most) {
      this.#on.refused(e, 'too-large', 'the server takes no message of that size');
      return;
    }
    if (e.expires > 0) f.expires = Math.max(Math.round(e.expires - now), 1);
    f.to = this.#writer!.to(e.to);
    this.#sent.push(e);
    if (this.#asked === Infinity) this.#asked = now;
    this.#write({ ...f, id: this.#writer!.id(e.id) }, now);
  }

  /** Says something of the moment; false if that cannot be. */
  signal(to: string, kind: string, body: Uint8Array, now: number): boolean {
    if (this.#state !== 'welcomed' || !(this.#welcome!.caps! & capSignals) || !fits(kind, body)) return false;
    this.#write({ type: 'signal', to: this.#writer!.to(to), kind, body }, now);
    return true;
  }

  /** Asks for the devices, one question after another; false if that cannot be. */
  devices(forget: string, now: number): boolean {
    if (this.#state !== 'welcomed' || !(this.#welcome!.caps! & capDevices)) return false;
    this.#asks.push(forget);
    if (this.#asked === Infinity) this.#asked = now;
    if (this.#asks.length === 1) this.#write({ type: 'devices', forget }, now);
    return true;
  }

  /** The application has everything up to here. */
  handled(place: number, more: boolean, now: number): void {
    this.#handled = Math.max(this.#handled, place);
    if (this.#state !== 'welcomed') return;
    const due = Math.min(this.#handled, this.#brought) - this.#acked;
    if (!more || due >= ackEvery || now - this.#ackedAt >= ackTime) this.#acknowledge(now);
  }

  set(change: Change, now: number): void {
    if (this.#state !== 'welcomed') return;
    this.#write({ type: 'set', ...change }, now);
    if (change.hold !== undefined) this.#background = change.hold > 0;
    // Until the server has agreed we speak as often as it may expect.
    if (change.interval !== undefined) this.#interval = Math.min(this.#interval, change.interval);
  }

  /** Says goodbye. */
  close(now: number): void {
    if (this.#state === 'welcomed') this.#write({ type: 'close', code: 'done' }, now);
    this.stop();
  }

  /** Ends without a word. */
  stop(): void {
    this.#state = 'ended';
  }

  #beatDue(): number {
    // The NAT and the server count our bytes, we count the server's.
    const due = Math.min(this.#read, this.#wrote) + this.#interval;
    return Math.min(due, this.#asked + unanswered);
  }

  /** What is to be acknowledged on the next frame's back, and is taken to be. */
  #ackStep(now: number): number {
    // The application may have handled what this connection has not brought
    // again yet. The server would take that for a mistake.
    const to = Math.min(this.#handled, this.#brought);
    const step = Math.max(to - this.#acked, 0);
    if (step > 0) {
      this.#acked = to;
      this.#ackedAt = now;
    }
    return step;
  }

  #acknowledge(now: number): void {
    const step = this.#ackStep(now);
    if (step > 0) this.#write({ type: 'ack', step }, now);
  }

  #write(f: Frame, now: number): void {
    const ack = this.#state === 'welcomed' && f.type !== 'ack' ? this.#ackStep(now) : 0;
    this.#out.push(encode(f, ack));
    this.#spoke(now);
    this.#on.trace(() => 'C: ' + format(f, ack));
  }

  #end(end: End): void {
    this.#state = 'ended';
    this.#on.ended(end);
  }

  #frame(raw: Raw, now: number): void {
    const f = decode(raw);
    this.#on.trace(() => 'S: ' + format(f, raw.ack));
    if (f.type === 'close') return this.#closedBy(f);
    if (this.#state === 'greeting') {
      if (f.type === 'welcome') return this.#welcomed(f, now);
      if (f.type === 'unknown') return;
      throw new ProtocolError(`link: the server begins with ${f.type.toUpperCase()}`);
    }
    switch (f.type) {
      case 'msg': {
        const m = this.#reader!.read(f);
        this.#brought = m.seq;
        return this.#on.message(m);
      }
      case 'trimmed':
        this.#brought = this.#reader!.trimmed(f.step);
        return this.#on.trimmed(this.#brought);
      case 'stored':
        for (const r of f.runs) {
          let seq = this.#told + r.step;
          this.#told = seq + r.count - 1;
          for (let n = 0; n < r.count; n++) this.#on.stored(this.#answered(), seq++, r.duplicate);
        }
        return;
      case 'refused':
        return this.#on.refused(this.#answered(), f.code, f.text);
      case 'devicelist':
        if (this.#asks.shift() === undefined) throw new ProtocolError('link: the server lists devices unasked');
        if (this.#asks.length > 0) this.#write({ type: 'devices', forget: this.#asks[0]! }, now);
        this.#settle();
        return this.#on.devices(f.devices);
      case 'signalled': {
        const { address, device } = this.#reader!.signal(f);
        return this.#on.signalled(address, device, f.kind, f.body.slice());
      }
      case 'ping':
        return this.#write({ type: 'pong', payload: f.payload.slice() }, now);
      case 'set':
        if (f.interval) this.#interval = Math.max(f.interval, shortestInterval);
        if (f.expires) this.#on.renewed(f.expires);
    }
  }

  #answered(): Entry {
    const e = this.#sent.shift();
    if (!e) throw new ProtocolError('link: the server answers what was not sent');
    this.#settle();
    return e;
  }

  #settle(): void {
    if (this.#sent.length === 0 && this.#asks.length === 0) this.#asked = Infinity;
  }

  #welcomed(w: Welcome, now: number): void {
    const cursor = w.cursor ?? 0;
    this.#welcome = w;
    this.#state = 'welcomed';
    this.#o.pace.answered(now - this.#opened);
    this.#reader = new MsgReader(cursor, w.time ?? 0);
    this.#writer = new SendWriter(this.#o.hello.prefix ?? '', w.peers ?? 0);
    this.#brought = this.#acked = cursor;
    this.#handled = Math.max(this.#handled, cursor);
    this.#ackedAt = now;
    this.#interval = Math.max(w.interval ?? 0, shortestInterval);
    this.#wrote = now;
    this.#quiet = 0;
    this.#on.welcomed(w);
  }

  #closedBy(f: Close): void {
    const end: End = { told: true, code: f.code, text: f.text ?? '' };
    if (f.back !== undefined) end.back = f.back;
    this.#end(end);
  }
}

/** What a message needs at most, in bytes: in UTF-8 three for each of a string's. */
function atMost(e: Entry): number {
  const attrs = e.attrs.reduce((n, [name, value]) => n + 3 * (name.length + value.length) + 10, 0);
  return e.data.length + 3 * (e.to.length + e.id.length + e.type.length) + attrs + 64;
}
