// The two frames that carry a message. A flag in the type says of each part
// whether it is there, so that what is usual costs nothing.

import { malformed, Reader, unzigzag, utf8, Writer, zigzag } from './bytes.js';
import { checkDeflated } from './inflate.js';
import { mediaTypes, type Urgency, urgencyWords } from './codes.js';

/**
 * Names an address by a number. The first use, and any later one that gives
 * the number another meaning, defines it. In a Send only address is defined.
 */
export interface Peer {
  n: number;
  define?: {
    address: string;
    /** The sender's device. */
    device: string;
    /** What his ids begin with, before the dot. */
    prefix: string;
  };
}

/**
 * A message's id: the text itself, or a step: the peer's prefix, a dot, and a
 * number so much beyond the peer's last.
 */
export type Id = string | number;

/** One property of a message: its name and its value. */
export type Attr = [name: string, value: string];

/** A message to be stored. */
export interface Send {
  type: 'send';
  to: Peer;
  /** A step of 1 costs nothing. */
  id: Id;
  /** The media type; empty is text/plain; charset=utf-8. */
  media: string;
  urgency: Urgency;
  /** Milliseconds that it is worth delivering; zero is for ever. */
  expires: number;
  attrs: Attr[];
  /** If not zero, how long the body is when it has been inflated. */
  deflated: number;
  body: Uint8Array;
}

/** A message delivered. */
export interface Msg {
  type: 'msg';
  /** From the place before to this one's; 1 costs nothing. */
  step: number;
  /** If not zero: how far back the entry before stands, where that is not the place before. */
  prev: number;
  from: Peer;
  id: Id;
  /** Milliseconds since the message before; the first since the time in Welcome. */
  time: number;
  media: string;
  urgency: Urgency;
  /** Undefined is the reader himself. */
  to?: Peer;
  /** Milliseconds after its time; zero is never. */
  expires: number;
  attrs: Attr[];
  /** If not zero: the body has so many bytes, more than the reader takes, and was left out. */
  left: number;
  /** As in Send. */
  deflated: number;
  body: Uint8Array;
}

const nothing = new Uint8Array(0);

export function newSend(to: Peer): Send {
  return { type: 'send', to, id: 1, media: '', urgency: 'normal', expires: 0, attrs: [], deflated: 0, body: nothing };
}

export function newMsg(from: Peer): Msg {
  return { type: 'msg', step: 1, prev: 0, from, id: 1, time: 0, media: '', urgency: 'normal', expires: 0, attrs: [], left: 0, deflated: 0, body: nothing };
}

const sendId = 1 << 0;
const sendMedia = 1 << 1;
const sendExpires = 1 << 2;
const sendAttrs = 1 << 3;
const sendMore = 1 << 4; // a byte of the urgency, and this:
const sendDeflated = 1 << 2;

function sendByte(f: Send): number {
  return urgencyWords.indexOf(f.urgency) | (f.deflated === 0 ? 0 : sendDeflated);
}

export function sendFlags(f: Send): number {
  return (
    (f.id === 1 ? 0 : sendId) |
    (f.media === '' ? 0 : sendMedia) |
    (f.expires === 0 ? 0 : sendExpires) |
    (f.attrs.length === 0 ? 0 : sendAttrs) |
    (sendByte(f) === 0 ? 0 : sendMore)
  );
}

export function writeSend(w: Writer, f: Send): void {
  writeRecipient(w, f.to);
  if (f.id !== 1) writeId(w, f.id);
  if (f.media !== '') writeMedia(w, f.media);
  if (f.expires !== 0) w.uvarint(f.expires);
  writeAttrs(w, f.attrs);
  if (sendByte(f) !== 0) w.byte(sendByte(f));
  if (f.deflated !== 0) w.uvarint(f.deflated);
  w.bytes(f.body);
}

export function readSend(flags: number, payload: Uint8Array): Send {
  const r = new Reader(payload);
  const f = newSend(readRecipient(r));
  if (flags & sendId) f.id = readId(r);
  if (flags & sendMedia) f.media = readMedia(r);
  if (flags & sendExpires) f.expires = r.positive();
  if (flags & sendAttrs) f.attrs = readAttrs(r);
  if (flags & sendMore) {
    const more = r.byte();
    if (more === 0 || more > 7) throw malformed(`urgency ${more}`);
    f.urgency = urgencyWords[more & 3]!;
    if (more & sendDeflated) f.deflated = readDeflated(r);
  }
  f.body = r.rest();
  return f;
}

const msgStep = 1 << 0;
const msgId = 1 << 1;
const msgMedia = 1 << 2;
const msgTo = 1 << 3;
const msgMore = 1 << 4; // the payload begins with a byte of these:
const morePrev = 1 << 0;
const moreExpires = 1 << 1;
const moreAttrs = 1 << 2;
const moreLeft = 1 << 3;
const moreUrgency = 3 << 4;
const moreDeflated = 1 << 6;
const moreKnown = morePrev | moreExpires | moreAttrs | moreLeft | moreUrgency | moreDeflated;

function moreFlags(f: Msg): number {
  return (
    (f.prev === 0 ? 0 : morePrev) |
    (f.expires === 0 ? 0 : moreExpires) |
    (f.attrs.length === 0 ? 0 : moreAttrs) |
    (f.left === 0 ? 0 : moreLeft) |
    (f.deflated === 0 ? 0 : moreDeflated) |
    (urgencyWords.indexOf(f.urgency) << 4)
  );
}

export function msgFlags(f: Msg): number {
  return (
    (f.step === 1 ? 0 : msgStep) |
    (f.id === 1 ? 0 : msgId) |
    (f.media === '' ? 0 : msgMedia) |
    (f.to ? msgTo : 0) |
    (moreFlags(f) === 0 ? 0 : msgMore)
  );
}

export function writeMsg(w: Writer, f: Msg): void {
  const more = moreFlags(f);
  if (more !== 0) w.byte(more);
  if (f.step !== 1) w.uvarint(f.step);
  if (f.prev !== 0) w.uvarint(f.prev);
  writePeer(w, f.from);
  if (f.id !== 1) writeId(w, f.id);
  w.varint(f.time);
  if (f.media !== '') writeMedia(w, f.media);
  if (f.to) writePeer(w, f.to);
  if (f.expires !== 0) w.uvarint(f.expires);
  writeAttrs(w, f.attrs);
  if (f.left !== 0) w.uvarint(f.left);
  if (f.deflated !== 0) w.uvarint(f.deflated);
  w.bytes(f.body);
}

export function readMsg(flags: number, payload: Uint8Array): Msg {
  const r = new Reader(payload);
  const more = flags & msgMore ? r.byte() : 0;
  if (flags & msgMore && (more === 0 || more & ~moreKnown)) throw malformed(`more flags 0x${more.toString(16)}`);
  const f = newMsg({ n: 0 });
  f.urgency = urgencyWords[(more & moreUrgency) >> 4]!;
  if (flags & msgStep) {
    f.step = r.positive();
    if (f.step === 1) throw malformed('step of 1 given');
  }
  if (more & morePrev) f.prev = r.positive();
  f.from = readPeer(r);
  if (flags & msgId) f.id = readId(r);
  f.time = r.varint();
  if (flags & msgMedia) f.media = readMedia(r);
  if (flags & msgTo) f.to = readPeer(r);
  if (more & moreExpires) f.expires = r.positive();
  if (more & moreAttrs) f.attrs = readAttrs(r);
  if (more & moreLeft) {
    f.left = r.positive();
    if (r.left > 0) throw malformed('body both there and left out');
  }
  if (more & moreDeflated) f.deflated = readDeflated(r);
  f.body = r.rest();
  return f;
}

function readDeflated(r: Reader): number {
  const size = r.uvarint();
  return checkDeflated(size, r.left);
}

/** Writes a peer of which only the address is defined. */
export function writeRecipient(w: Writer, p: Peer): void {
  w.uvarint(p.n * 2 + (p.define ? 1 : 0));
  if (p.define) w.string(p.define.address);
}

export function readRecipient(r: Reader): Peer {
  const n = r.uvarint();
  const p: Peer = { n: Math.floor(n / 2) };
  if (n % 2 === 1) p.define = { address: r.string(), device: '', prefix: '' };
  return p;
}

export function writePeer(w: Writer, p: Peer): void {
  w.uvarint(p.n * 2 + (p.define ? 1 : 0));
  if (!p.define) return;
  w.string(p.define.address);
  w.string(p.define.device);
  w.string(p.define.prefix);
}

export function readPeer(r: Reader): Peer {
  const n = r.uvarint();
  const p: Peer = { n: Math.floor(n / 2) };
  if (n % 2 === 1) p.define = { address: r.string(), device: r.string(), prefix: r.string() };
  return p;
}

// The lowest bit of an id's first integer tells a step (1) from a length (0).
function writeId(w: Writer, id: Id): void {
  if (typeof id === 'number') return w.uvarint(zigzag(id) * 2 + 1);
  const text = utf8(id);
  w.uvarint(text.length * 2);
  w.bytes(text);
}

function readId(r: Reader): Id {
  const n = r.uvarint();
  if (n % 2 === 0) {
    if (n === 0) throw malformed('empty id');
    return r.text(n / 2);
  }
  const step = unzigzag((n - 1) / 2);
  if (step === 1) throw malformed("id's step of 1 given");
  return step;
}

// A media type is its number, or 0 and the type.
function writeMedia(w: Writer, t: string): void {
  const n = t === '' ? -1 : (mediaTypes as readonly string[]).indexOf(t);
  w.uvarint(Math.max(n, 0));
  if (n < 0) w.string(t);
}

function readMedia(r: Reader): string {
  const n = r.uvarint();
  if (n >= mediaTypes.length) throw malformed(`media type number ${n}`);
  if (n > 0) return mediaTypes[n]!;
  const t = r.string();
  if ((mediaTypes as readonly string[]).includes(t)) throw malformed('media type spelled out that has a number');
  return t;
}

function writeAttrs(w: Writer, attrs: Attr[]): void {
  if (attrs.length === 0) return;
  w.uvarint(attrs.length);
  for (const [name, value] of attrs) {
    w.string(name);
    w.string(value);
  }
}

function readAttrs(r: Reader): Attr[] {
  const n = r.positive();
  if (n > r.left / 2) throw malformed('ends too early'); // each takes two bytes at least
  return Array.from({ length: n }, () => [r.string(), r.string()] as Attr);
}
