// The client's half of what both sides remember of one direction of one
// connection: it turns frames into whole messages, and whole messages into
// frames.

import { malformed, maxInt } from './bytes.js';
import type { Urgency } from './codes.js';
import { inflate } from './inflate.js';
import type { Attr, Id, Msg, Peer } from './message.js';
import type { Signalled } from './signal.js';

/** A message delivered, in absolute terms. */
export interface Delivered {
  seq: number;
  prev: number;
  id: string;
  from: string;
  device: string;
  /** Empty is the reader himself. */
  to: string;
  /** Unix milliseconds. */
  time: number;
  /** Unix milliseconds; zero is never. */
  expires: number;
  media: string;
  urgency: Urgency;
  attrs: Attr[];
  /** If not zero: the body was left out and has so many bytes. */
  left: number;
  body: Uint8Array;
}

/** Bounds the numbers of peers whatever is agreed. */
export const maxPeers = 1 << 16;

/** Cuts prefix.17 into the prefix and 17; undefined for any other id. */
export function splitId(id: string): { prefix: string; n: number } | undefined {
  const m = /^([^]+)\.([1-9][0-9]{0,14})$/.exec(id);
  return m ? { prefix: m[1]!, n: Number(m[2]) } : undefined;
}

/** The number that an id ends in after a step. */
export function stepId(prefix: string, last: number, step: number): { id: string; n: number } {
  const n = last + step;
  if (prefix === '' || n < 0 || n > maxInt) throw malformed("id's number out of range");
  return { id: `${prefix}.${n}`, n };
}

/** Turns Msg frames into messages. */
export class MsgReader {
  /** Of the last message, or of what was trimmed. */
  place: number;
  #time: number;
  readonly #peers: { address: string; device: string; prefix: string; last: number }[] = [];

  /** Place and time are the cursor and the time of the Welcome. */
  constructor(place: number, time: number) {
    this.place = place;
    this.#time = time;
  }

  read(f: Msg): Delivered {
    const seq = this.place + f.step;
    if (seq > maxInt || f.prev > seq) throw malformed('place out of range');
    const from = this.#peer(f.from);
    let id = f.id;
    if (typeof id === 'number') {
      const s = stepId(from.prefix, from.last, id);
      from.last = s.n;
      id = s.id;
    }
    const time = this.#time + f.time;
    const m: Delivered = {
      seq, prev: f.prev === 0 ? this.place : seq - f.prev, id, from: from.address, device: from.device,
      to: f.to ? this.#peer(f.to).address : '', time, expires: f.expires === 0 ? 0 : time + f.expires,
      media: f.media, urgency: f.urgency, attrs: f.attrs, left: f.left, body: f.deflated === 0 ? f.body : inflate(f.body, f.deflated),
    };
    this.place = seq;
    this.#time = time;
    return m;
  }

  /** Passes over what is gone, and says up to which place. */
  trimmed(step: number): number {
    if (step > maxInt - this.place) throw malformed('place out of range');
    return (this.place += step);
  }

  /** Says who sent a signal. */
  signal(f: Signalled): { address: string; device: string } {
    return this.#peer(f.from);
  }

  #peer(p: Peer) {
    const inUse = this.#peers.length;
    if (p.define) {
      if (p.n > inUse || p.n >= maxPeers) throw malformed(`peer ${p.n} defined, ${inUse} are in use`);
      this.#peers[p.n] = { ...p.define, last: 0 };
    }
    const known = this.#peers[p.n];
    if (!known) throw malformed(`peer ${p.n} was not defined`);
    return known;
  }
}

/** Makes the recipients and ids of Send frames. */
export class SendWriter {
  readonly #prefix: string;
  readonly #most: number;
  readonly #numbers = new Map<string, number>();
  readonly #recipients: string[] = [];
  #next = 0;
  #last = 0;

  /** Prefix is Hello's; peers is Welcome's: how many recipients may have a number. */
  constructor(prefix: string, peers: number) {
    this.#prefix = prefix;
    this.#most = Math.max(peers, 1);
  }

  /** The recipient's number, which is new if it has to be defined. */
  to(address: string): Peer {
    const known = this.#numbers.get(address);
    if (known !== undefined) return { n: known };
    if (this.#recipients.length < this.#most) {
      this.#next = this.#recipients.length;
    } else {
      this.#next = (this.#next + 1) % this.#recipients.length;
      this.#numbers.delete(this.#recipients[this.#next]!);
    }
    this.#recipients[this.#next] = address;
    this.#numbers.set(address, this.#next);
    return { n: this.#next, define: { address, device: '', prefix: '' } };
  }

  /** The short form of an id, if it has one. */
  id(id: string): Id {
    const s = splitId(id);
    if (!s || s.prefix !== this.#prefix) return id;
    const step = s.n - this.#last;
    this.#last = s.n;
    return step;
  }
}
