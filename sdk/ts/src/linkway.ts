// The long connection: a Session, the carrier under it, and a timer.

import { Alarm, type Clock } from './clock.js';
import { capDeflate, capDevices, capProbe, capSignals, type Welcome } from './codec/fields.js';
import type { Delivered } from './codec/stream.js';
import { type Deflate, pays, worthDeflating } from './deflate.js';
import { Pace } from './pace.js';
import { Probe } from './probe.js';
import { Session } from './session.js';
import type { Entry } from './store/store.js';
import { Message } from './types.js';
import { type Carrier, type CarrierEvents, type Change, type Connection, type Dial, type End, type Go, type Login, lost, type Owner, type ProbeOwner, type Way, type Welcomed } from './way.js';

export interface LinkOptions {
  dial: Dial;
  clock: Clock;
  /** What the ids of this client's messages begin with. */
  prefix: string;
  agent: string;
  /** The longest message to take, in bytes. */
  maxMessage: number;
  /** Deflates bodies, if the server can; without it they go as they are. */
  deflate?: Deflate | undefined;
}

/** A message on its way to the session. */
interface Packing {
  entry: Entry;
  packed: Uint8Array | undefined;
  ready: boolean;
}

const openTime = 15_000; // for the network to open a carrier
const keepTime = 4_000; // for who connects again, to take the spare one
const quickTime = 5_000; // for the welcome, where there is another way that works
const quickAnswer = 2_500; // and then for a sign of life
const slowAnswer = 5_000; // the same, where there is none

/** A way by TCP or WebSocket. */
export class LinkWay implements Way {
  readonly name: 'tcp' | 'websocket';
  readonly #o: LinkOptions;
  readonly #spare: Spare;
  #network: string | undefined;
  #pace = new Pace();

  constructor(name: 'tcp' | 'websocket', o: LinkOptions) {
    this.name = name;
    this.#o = o;
    this.#spare = new Spare(o);
  }

  open(login: Login, owner: Owner): Connection {
    if (login.network !== this.#network) {
      this.#spare.drop();
      this.#pace = new Pace();
    }
    this.#network = login.network;
    return this.#link(this.#spare.take() ?? new Line(this.#o), login, owner);
  }

  #link(line: Line, login: Login, owner: Owner, better = false): Connection {
    return new Link({ ...this.#o, line, spare: this.#spare, pace: this.#pace, better }, login, owner);
  }

  knock(answer: (go: Go | undefined) => void): () => void {
    const line = new Line(this.#o);
    let answered = false;
    const once = (go?: Go) => {
      if (!answered) answer(go);
      answered = true;
    };
    line.on = {
      open: () => once((login, owner) => this.#link(line, login, owner, true)),
      data: () => {},
      closed: () => once(),
    };
    return () => line.close();
  }

  probe(login: Login, silence: number | undefined, owner: ProbeOwner): () => void {
    const line = new Line(this.#o);
    const { after: _, interval: _1, ...who } = login;
    const p = new Probe(this.#o.clock, line, { ...who, agent: this.#o.agent }, { silence, pace: this.#pace }, owner);
    line.on = p;
    return () => p.stop();
  }
}

/** A carrier that is given up if it does not open in time. */
class Line {
  on: CarrierEvents | undefined;
  state: 'opening' | 'open' | 'closed' = 'opening';
  #carrier: Carrier | undefined;
  readonly #stop: () => void;

  constructor(o: LinkOptions) {
    this.#stop = o.clock.timer(openTime, () => this.#close('the connection does not open'));
    try {
      this.#carrier = o.dial({
        open: () => {
          if (this.state !== 'opening') return;
          this.#stop();
          this.state = 'open';
          this.on?.open();
        },
        data: (bytes) => this.state === 'open' && this.on?.data(bytes),
        closed: (why, reset) => this.#close(why, reset),
      });
    } catch (e) {
      // A browser may forbid a WebSocket from where the page is.
      queueMicrotask(() => this.#close(String(e)));
    }
  }

  #close(why: string, reset = false): void {
    if (this.state === 'closed') return;
    this.close();
    this.on?.closed(why, reset);
  }

  send(bytes: Uint8Array): void {
    if (this.state === 'open') this.#carrier?.send(bytes);
  }

  close(): void {
    this.#stop();
    this.state = 'closed';
    this.#carrier?.close();
  }
}

/** A line that is opened while the one in use is in doubt. Nothing is said on it until that is given up. */
class Spare {
  readonly #o: LinkOptions;
  #line: Line | undefined;
  #kept = (): void => {};

  constructor(o: LinkOptions) {
    this.#o = o;
  }

  /** There is doubt. */
  open(): void {
    this.#line ??= new Line(this.#o);
  }

  /** There is none any more. */
  drop(): void {
    this.take()?.close();
  }

  /** The line in use is given up: who connects again may take this one, if he does so soon. */
  keep(): void {
    if (this.#line) this.#kept = this.#o.clock.timer(keepTime, () => this.drop());
  }

  take(): Line | undefined {
    const line = this.#line;
    this.#line = undefined;
    this.#kept();
    return line?.state === 'closed' ? undefined : line;
  }
}

/** What a Link needs besides. */
interface Lines {
  line: Line;
  spare: Spare;
  pace: Pace;
  better: boolean; // there is another way, which works
}

class Link implements Connection {
  readonly #line: Line;
  readonly #spare: Spare;
  readonly #clock: Clock;
  readonly #owner: Owner;
  readonly #session: Session;
  readonly #alarm: Alarm;
  readonly #deflate: Deflate | undefined;
  #packing: Packing[] = []; // oldest first
  #address = ''; // of the account
  #ended = false;
  #end: End | undefined;

  constructor(o: LinkOptions & Lines, login: Login, owner: Owner) {
    const line = (this.#line = o.line);
    this.#spare = o.spare;
    this.#clock = o.clock;
    this.#owner = owner;
    this.#deflate = o.deflate;
    this.#session = new Session(
      { hello: { ...login, caps: capProbe | capSignals | capDevices | capDeflate, prefix: o.prefix, agent: o.agent }, maxFrame: o.maxMessage, pace: o.pace, welcomeTime: o.better ? quickTime : undefined },
      {
        welcomed: (w) => {
          this.#welcomed(w, login.after);
          // Something on the way may have let through the welcome and nothing more.
          if (o.better || o.pace.deaf) queueMicrotask(() => this.check(o.better ? quickAnswer : slowAnswer));
        },
        message: (m) => owner.message(this.#message(m)),
        trimmed: (place) => owner.gap(place),
        stored: (e, seq, duplicate) => owner.stored(e, seq, duplicate),
        refused: (e, code, text) => owner.refused(e, code, text),
        survived: (silence) => owner.survived(silence),
        doubted: (yes) => (yes ? o.spare.open() : o.spare.drop()),
        renewed: (expires) => owner.renewed(expires),
        devices: (list) => owner.devices(list.map((d) => ({ ...d, seen: new Date(d.seen) }))),
        signalled: (from, device, kind, data) => owner.signalled({ from, device, kind, data }),
        ended: (end) => (this.#end = end),
        trace: (line) => owner.trace(line),
      },
    );
    this.#alarm = new Alarm(o.clock, () => this.#do((now) => this.#session.tick(now)));
    line.on = {
      open: () => this.#do((now) => this.#session.open(now)),
      data: (bytes) => this.#do((now) => this.#session.receive(bytes, now)),
      closed: (why) => {
        this.#session.closed(why);
        this.#finish(this.#end ?? lost(why));
      },
    };
    if (line.state === 'open') this.#do((now) => this.#session.open(now));
    if (line.state === 'closed') queueMicrotask(() => this.#finish(lost('the connection did not stay')));
  }

  #welcomed(w: Welcome, asked: number | undefined): void {
    this.#address = w.address ?? '';
    const known: Welcomed = { address: this.#address, device: w.device ?? '', cursor: w.cursor ?? 0, asked, time: w.time ?? 0 };
    if (w.expires !== undefined) known.expires = w.expires;
    if (w.interval !== undefined) known.interval = w.interval;
    known.helps = ((w.caps ?? 0) & capProbe) !== 0;
    if (w.good !== undefined) known.good = w.good;
    if (w.bad !== undefined) known.bad = w.bad;
    this.#owner.welcomed(known);
  }

  #message(m: Delivered): Message {
    return new Message({
      seq: m.seq, prev: m.prev, id: m.id, from: m.from, to: m.to === '' ? this.#address : m.to, device: m.device,
      time: new Date(m.time), expires: m.expires === 0 ? undefined : new Date(m.expires),
      type: m.media === '' ? 'text/plain; charset=utf-8' : m.media, urgency: m.urgency, attrs: m.attrs, left: m.left,
      data: m.body.slice(), // what it is part of is kept no longer than need be
    });
  }

  /** Gives the session an input, and does what comes of it. */
  #do(input: (now: number) => void): void {
    if (this.#ended) return;
    input(this.#clock.now());
    if (this.#ended) return;
    this.#sends();
    this.#session.along(this.#clock.now());
    const out = this.#session.output();
    if (out) this.#line.send(out);
    if (this.#end) this.#finish(this.#end);
    else this.#alarm.set(this.#session.deadline);
  }

  #sends(): void {
    for (let e: Entry | undefined; this.#session.room > this.#packing.length && (e = this.#owner.take()); ) this.#pack(e);
    while (this.#packing[0]?.ready) {
      const { entry, packed } = this.#packing.shift()!;
      this.#session.send(entry, this.#clock.now(), packed);
    }
  }

  /** Deflates what is worth it, which takes a moment: what comes behind waits, so that the order stays. */
  #pack(entry: Entry): void {
    const p: Packing = { entry, packed: undefined, ready: true };
    this.#packing.push(p);
    if (!this.#deflate || !this.#session.deflates || !worthDeflating(entry.data, entry.type)) return;
    p.ready = false;
    this.#deflate(entry.data)
      .then((packed) => {
        if (pays(entry.data, packed)) p.packed = packed;
      })
      .catch(() => {}) // it goes as it is
      .then(() => {
        p.ready = true;
        this.#do(() => {});
      });
  }

  #finish(end: End): void {
    if (this.#ended) return;
    this.#owner.ended(end, this.drop());
  }

  work(): void {
    this.#do(() => {});
  }

  handled(place: number, more: boolean): void {
    this.#do((now) => this.#session.handled(place, more, now));
  }

  signal(to: string, kind: string, data: Uint8Array): boolean {
    let said = false;
    this.#do((now) => (said = this.#session.signal(to, kind, data, now)));
    return said;
  }

  devices(forget: string): boolean {
    let asked = false;
    this.#do((now) => (asked = this.#session.devices(forget, now)));
    return asked;
  }

  set(change: Change): void {
    this.#do((now) => this.#session.set(change, now));
  }

  get heard(): number {
    return this.#session.heard;
  }

  check(patience = Infinity): void {
    this.#do((now) => this.#session.check(patience, now));
  }

  close(): Promise<void> {
    if (!this.#ended) {
      this.#sends();
      for (const { entry } of this.#packing.splice(0)) this.#session.send(entry, this.#clock.now()); // as it is: nobody waits
      this.#session.close(this.#clock.now());
      const out = this.#session.output();
      if (out) this.#line.send(out);
      this.drop();
    }
    return Promise.resolve();
  }

  drop(): Entry[] {
    this.#ended = true;
    if (this.#end?.unheard) this.#spare.keep();
    else this.#spare.drop();
    this.#session.stop();
    this.#alarm.stop();
    this.#line.close();
    return [...this.#session.unanswered.splice(0), ...this.#packing.splice(0).map((p) => p.entry)];
  }
}
