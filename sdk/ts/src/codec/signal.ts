// Words of the moment: that somebody is typing, is online, has gone.

import { malformed, Reader, utf8, Writer } from './bytes.js';
import { type Peer, readPeer, readRecipient, writePeer, writeRecipient } from './message.js';

/** A word of the moment for somebody who is there. It is stored nowhere, has no place and is not answered. */
export interface Signal {
  type: 'signal';
  /** With Send's numbers. */
  to: Peer;
  kind: string;
  body: Uint8Array;
}

/** A Signal as its recipient gets it. */
export interface Signalled {
  type: 'signalled';
  /** With Msg's numbers; its prefix is empty. */
  from: Peer;
  kind: string;
  body: Uint8Array;
}

/** What a signal says: the number on the wire is the index. An application may have kinds of its own. */
const kinds: readonly string[] = ['', 'composing', 'paused', 'active', 'inactive', 'gone', 'online', 'offline', 'ask'];

const maxSignal = 1024;
const maxKind = 64;

/** Whether a signal is one that may be said. */
export function fits(kind: string, body: Uint8Array): boolean {
  return kind !== '' && utf8(kind).length <= maxKind && body.length <= maxSignal;
}

export function writeSignal(w: Writer, f: Signal | Signalled): void {
  if (f.type === 'signal') writeRecipient(w, f.to);
  else writePeer(w, f.from);
  const n = Math.max(kinds.indexOf(f.kind), 0);
  w.uvarint(n);
  if (n === 0) w.string(f.kind);
  w.bytes(f.body);
}

export function readSignal(type: 'signal' | 'signalled', r: Reader): Signal | Signalled {
  const peer = type === 'signal' ? readRecipient(r) : readPeer(r);
  if (type === 'signalled' && peer.define && peer.define.prefix !== '') throw malformed('prefix of ids, and a signal has none');
  const kind = readKind(r);
  if (r.left > maxSignal) throw malformed(`signal of ${r.left} bytes, at most ${maxSignal}`);
  const body = r.rest();
  return type === 'signal' ? { type, to: peer, kind, body } : { type, from: peer, kind, body };
}

function readKind(r: Reader): string {
  const n = r.uvarint();
  if (n >= kinds.length) throw malformed(`kind of signal ${n}`);
  if (n > 0) return kinds[n]!;
  const size = r.uvarint();
  const kind = r.text(size);
  if (size === 0 || size > maxKind) throw malformed(`kind of signal of ${size} bytes`);
  if (kinds.includes(kind)) throw malformed('kind of signal spelled out that has a number');
  return kind;
}
