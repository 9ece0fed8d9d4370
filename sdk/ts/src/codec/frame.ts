// The codec of the link protocol: bytes to values and back. It does no I/O and
// holds no connection. A frame is a type, a length and a payload; its numbers
// are relative to what went before, which stream.ts resolves.
//
// What decodes encodes to the same bytes: there is one encoding of each frame.

import { malformed, ProtocolError, Reader, utf8, uvarint, uvarintSize, Writer } from './bytes.js';
import { refusedWords, unword, word } from './codes.js';
import { type DeviceList, type Devices, readDeviceList, writeDeviceList } from './device.js';
import { type Listed, readListed, writeListed } from './fields.js';
import { readSignal, type Signal, type Signalled, writeSignal } from './signal.js';
import { type Msg, msgFlags, readMsg, readSend, type Send, sendFlags, writeMsg, writeSend } from './message.js';

/** Asks for a Pong with the same payload, of up to 32 bytes; an empty one is a heartbeat. */
export interface Ping {
  type: 'ping' | 'pong';
  payload: Uint8Array;
}

/**
 * So many successive sends are stored, at successive places of the recipient's
 * box. Step is from the place last told on this connection to the first one's.
 */
export interface Run {
  count: number;
  step: number;
  /** They had been stored before. */
  duplicate: boolean;
}

/** Answers the oldest sends that are not answered yet. */
export interface Stored {
  type: 'stored';
  runs: Run[];
}

/** Answers the oldest send that is not answered yet: nothing of it was stored. */
export interface Refused {
  type: 'refused';
  code: string;
  text: string;
}

/**
 * Ack: the device has stored everything up to so many places beyond what it
 * acknowledged before. Trimmed: so many entries behind the last one delivered
 * are gone by retention and will not come.
 */
export interface Step {
  type: 'ack' | 'trimmed';
  step: number;
}

/** A frame of a type that this version does not know. It is skipped. */
export interface Unknown {
  type: 'unknown';
  number: number;
  payload: Uint8Array;
}

export type Frame = Listed | Ping | Stored | Refused | Step | Send | Msg | Signal | Signalled | Devices | DeviceList | Unknown;

// Zero is never assigned, nor is 0x16, with which a TLS handshake begins.
const types = ['', 'hello', 'welcome', 'close', 'ping', 'pong', 'set', 'stored', 'refused', 'ack', 'trimmed', '', '', '', '', '', 'signal', 'signalled', 'devices', 'devicelist'] as const;
const typeMsg = 0x40; // to 0x5f
const typeSend = 0x60; // to 0x7f
const flagBits = 0x1f;
const ackBit = 0x80; // an acknowledgement stands first in the payload
const maxPing = 32;

/** A frame that has not been decoded. */
export interface Raw {
  number: number;
  /** How many places the acknowledgement on its back goes forward; zero if it carries none. */
  ack: number;
  flags: number;
  payload: Uint8Array;
}

/**
 * Takes the frame that begins at p[at], whose payload may have max bytes. A
 * size of zero says that p does not hold all of it yet. A frame that is too
 * long is known by its first bytes.
 */
export function next(p: Uint8Array, at: number, max: number): { raw: Raw; size: number } | undefined {
  if (at >= p.length) return undefined;
  const lead = p[at]!;
  if ((lead & ~ackBit) === 0) throw malformed('type 0');
  const length = uvarint(p, at + 1);
  if (length.size === 0) return undefined;
  if (length.value > max) throw new ProtocolError(`link: frame over the agreed size: ${length.value} bytes, at most ${max}`, 'frame-too-long');
  const start = at + 1 + length.size;
  if (p.length < start + length.value) return undefined;
  const raw: Raw = { number: lead & ~ackBit, ack: 0, flags: 0, payload: p.subarray(start, start + length.value) };
  if (raw.number >= typeMsg) {
    raw.flags = raw.number & flagBits;
    raw.number &= ~flagBits;
  }
  if (lead & ackBit) {
    const ack = uvarint(raw.payload, 0);
    if (ack.value === 0) throw malformed('acknowledgement of nothing');
    raw.ack = ack.value;
    raw.payload = raw.payload.subarray(ack.size);
  }
  return { raw, size: start + length.value - at };
}

/** Decodes a frame, which may hold parts of the payload. */
export function decode(raw: Raw): Frame {
  if (raw.number === typeSend) return readSend(raw.flags, raw.payload);
  if (raw.number === typeMsg) return readMsg(raw.flags, raw.payload);
  const type = types[raw.number];
  const r = new Reader(raw.payload);
  switch (type) {
    case 'hello':
    case 'welcome':
    case 'close':
    case 'set':
      return readListed(type, raw.payload);
    case 'ping':
    case 'pong':
      if (r.left > maxPing) throw malformed(`ping of ${r.left} bytes, at most ${maxPing}`);
      return { type, payload: raw.payload };
    case 'stored':
      return readStored(r);
    case 'refused': {
      const f: Refused = { type, code: word(refusedWords, r.uvarint()), text: r.string() };
      r.end();
      return f;
    }
    case 'ack':
    case 'trimmed': {
      const f: Step = { type, step: r.positive() };
      r.end();
      return f;
    }
    case 'signal':
    case 'signalled':
      return readSignal(type, r);
    case 'devices':
      return { type, forget: r.text(r.left) };
    case 'devicelist':
      return readDeviceList(r);
    default:
      return { type: 'unknown', number: raw.number, payload: raw.payload };
  }
}

function readStored(r: Reader): Stored {
  const runs: Run[] = [];
  while (r.left > 0) {
    const n = r.uvarint();
    if (n < 2) throw malformed('run of nothing');
    runs.push({ count: Math.floor(n / 2), duplicate: n % 2 === 1, step: r.varint() });
  }
  if (runs.length === 0) throw malformed('nothing stored');
  return { type: 'stored', runs };
}

/** Encodes a frame, with an acknowledgement of ack places on its back unless ack is zero. */
export function encode(f: Frame, ack = 0): Uint8Array {
  const payload = new Writer();
  writePayload(payload, f);
  const w = new Writer();
  w.byte(leadOf(f) | (ack > 0 ? ackBit : 0));
  w.uvarint(payload.length + (ack > 0 ? uvarintSize(ack) : 0));
  if (ack > 0) w.uvarint(ack);
  w.bytes(payload.done());
  return w.done();
}

function leadOf(f: Frame): number {
  switch (f.type) {
    case 'send':
      return typeSend | sendFlags(f);
    case 'msg':
      return typeMsg | msgFlags(f);
    case 'unknown':
      return f.number;
    default:
      return types.indexOf(f.type);
  }
}

function writePayload(w: Writer, f: Frame): void {
  switch (f.type) {
    case 'send':
      return writeSend(w, f);
    case 'msg':
      return writeMsg(w, f);
    case 'ping':
    case 'pong':
    case 'unknown':
      return w.bytes(f.payload);
    case 'stored':
      for (const r of f.runs) {
        w.uvarint(r.count * 2 + (r.duplicate ? 1 : 0));
        w.varint(r.step);
      }
      return;
    case 'refused':
      w.uvarint(unword(refusedWords, f.code) ?? 0);
      return w.string(f.text);
    case 'signal':
    case 'signalled':
      return writeSignal(w, f);
    case 'devices':
      return w.bytes(utf8(f.forget));
    case 'devicelist':
      return writeDeviceList(w, f);
    case 'ack':
    case 'trimmed':
      return w.uvarint(f.step);
    default:
      return writeListed(w, f);
  }
}

/** Cuts a stream of bytes, which may come in any pieces, into frames. */
export class Splitter {
  /** The longest payload to take, in bytes. */
  readonly max: number;
  #p: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  #ours = false; // #p was made here, and has room behind #end

  constructor(max: number) {
    this.max = max;
  }

  /** P is kept, and must not change, until the next push. */
  push(p: Uint8Array): void {
    const left = this.#p.subarray(this.#at, this.#end);
    if (left.length === 0) {
      this.#p = p;
      this.#at = 0;
      this.#end = p.length;
      this.#ours = false;
      return;
    }
    if (!this.#ours || this.#p.length - this.#end < p.length) {
      this.#p = new Uint8Array(2 * (left.length + p.length));
      this.#p.set(left);
      this.#at = 0;
      this.#end = left.length;
      this.#ours = true;
    }
    this.#p.set(p, this.#end);
    this.#end += p.length;
  }

  /** The next frame, undefined until all of it is there. It is valid until the next push. */
  next(): Raw | undefined {
    const n = next(this.#p.subarray(0, this.#end), this.#at, this.max);
    if (n) this.#at += n.size;
    return n?.raw;
  }
}
