// The server's half of what both sides remember of one direction of one
// connection, so that both directions can be tested.

import type { Urgency } from '../../src/codec/codes.js';
import { type Id, type Msg, newMsg, type Peer } from '../../src/codec/message.js';
import { type Delivered, splitId, stepId } from '../../src/codec/stream.js';

const maxKnown = 64;

/** Turns messages into Msg frames. */
export class MsgWriter {
  place: number;
  time: number;
  readonly #peers: { key: string; last: number }[] = [];
  #next = -1;

  constructor(place: number, time: number) {
    this.place = place;
    this.time = time;
  }

  write(m: Delivered): Msg {
    const s = splitId(m.id);
    const { peer, known } = this.#peer(m.from, m.device, s?.prefix ?? '');
    const f: Msg = {
      ...newMsg(peer), step: m.seq - this.place, prev: m.prev === this.place ? 0 : m.seq - m.prev, time: m.time - this.time,
      id: s ? s.n - known.last : m.id, media: m.media, urgency: m.urgency as Urgency, attrs: m.attrs, left: m.left, body: m.body,
      expires: m.expires > m.time ? m.expires - m.time : 0,
    };
    if (s) known.last = s.n;
    if (m.to !== '') f.to = this.#peer(m.to, '', '').peer;
    this.place = m.seq;
    this.time = m.time;
    return f;
  }

  #peer(address: string, device: string, prefix: string): { peer: Peer; known: { last: number } } {
    const key = JSON.stringify([address, device, prefix]);
    const i = this.#peers.findIndex((p) => p.key === key);
    if (i >= 0) return { peer: { n: i }, known: this.#peers[i]! };
    this.#next = this.#peers.length < maxKnown ? this.#peers.length : (this.#next + 1) % maxKnown;
    const known = { key, last: 0 };
    this.#peers[this.#next] = known;
    return { peer: { n: this.#next, define: { address, device, prefix } }, known };
  }
}

/** Resolves the recipients and ids of Send frames. */
export class SendReader {
  readonly #prefix: string;
  readonly #peers: string[] = [];
  #last = 0;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  to(p: Peer): string {
    if (p.define) this.#peers[p.n] = p.define.address;
    const address = this.#peers[p.n];
    if (address === undefined) throw new Error(`recipient ${p.n} was not defined`);
    return address;
  }

  id(id: Id): string {
    if (typeof id === 'string') return id;
    const s = stepId(this.#prefix, this.#last, id);
    this.#last = s.n;
    return s.id;
  }
}
