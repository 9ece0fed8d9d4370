// The frames that say something about the session as a whole are rare, so they
// are lists of fields, of which any may be left out and more may come: a
// number, a length, a value. Fields stand in the order of their numbers.

import { closeWords, unword, word } from './codes.js';
import { malformed, Reader, utf8, Writer } from './bytes.js';

/**
 * A field that this version does not know. It is skipped, and written back in
 * its place.
 */
export interface Field {
  number: number;
  value: Uint8Array;
}

/** The client's first frame. */
export interface Hello {
  type: 'hello';
  major: number;
  minor: number;
  token?: string;
  user?: string;
  password?: string;
  /** Which reader of the mailbox this is. */
  device?: string;
  /** Everything up to here is on the device; without it, the device's cursor. */
  after?: number;
  /** The network that the device is on, in its own words. */
  network?: string;
  /** The longest payload that the client takes, in bytes. */
  maxFrame?: number;
  /** How often the client will speak at least, in milliseconds. */
  interval?: number;
  /** How many bytes of messages may be unacknowledged. */
  window?: number;
  caps?: number;
  /** What the ids of this connection's sends begin with. */
  prefix?: string;
  /** The client's name and version, for logs. */
  agent?: string;
  /** Reserved: once a promise about ids, which nobody relies on. It is read and never sent. */
  used?: number;
  /** A probe: the connection will be silent for so many milliseconds. */
  probe?: number;
  /** What the client found: the longest silence that its network bore, in milliseconds. */
  good?: number;
  /** And the shortest that it did not. */
  bad?: number;
  /** With probe, not 0: after the silence it is the server that pings. For carriers on UDP. */
  call?: number;
  unknown?: Field[];
}

/** Answers Hello. Messages follow at once. */
export interface Welcome {
  type: 'welcome';
  major: number;
  minor: number;
  /** The user's canonical address. */
  address?: string;
  device?: string;
  /** Messages begin after this place. */
  cursor?: number;
  /** The server's clock, Unix milliseconds. */
  time?: number;
  /** The client is to speak at least this often, in milliseconds. */
  interval?: number;
  /** The longest payload that the server takes, in bytes. */
  maxFrame?: number;
  window?: number;
  /** How many sends may be unanswered. */
  inflight?: number;
  /** How many recipients may have a number. */
  peers?: number;
  caps?: number;
  /** When the token ends, Unix milliseconds. */
  expires?: number;
  /** What others found on the client's network, as in Hello. */
  good?: number;
  bad?: number;
  unknown?: Field[];
}

/**
 * Changes what was agreed. From the client: all but expires. From the server,
 * as the answer: interval, window, expires, hold and normal.
 */
export interface Set {
  type: 'set';
  token?: string;
  interval?: number;
  window?: number;
  expires?: number;
  /** What the client found, as in Hello. */
  good?: number;
  bad?: number;
  /** The client is in the background: messages that can wait may, so many milliseconds; 0 is the foreground. */
  hold?: number;
  /** With hold, 1: those of normal urgency can wait, too. */
  normal?: number;
  unknown?: Field[];
}

/** The last frame of either side. */
export interface Close {
  type: 'close';
  code: string;
  /** For people. */
  text?: string;
  /** Come back, but not before so many milliseconds; without it, do not. */
  back?: number;
  unknown?: Field[];
}

export type Listed = Hello | Welcome | Set | Close;

/** A capability bit: the client learns its heartbeat by probes, and the server helps it. */
export const capProbe = 1;

/** And: Signal and Signalled. */
export const capSignals = 2;
/** And: Devices and DeviceList. */
export const capDevices = 4;
/** And: deflated bodies. */
export const capDeflate = 8;

/** A "count" is left out when it is zero, a "number" only when it is undefined. */
type Kind = 'text' | 'count' | 'number' | 'code';

/** What the text form calls a field, and where it is, is its name. */
export interface Spec {
  n: number;
  name: string;
  kind: Kind;
}

function specs(...list: [string, Kind][]): Spec[] {
  return list.map(([name, kind], i) => ({ n: i + 1, name, kind }));
}

export const listed: Record<Listed['type'], Spec[]> = {
  hello: specs(
    ['token', 'text'], ['user', 'text'], ['password', 'text'], ['device', 'text'], ['after', 'number'], ['network', 'text'],
    ['maxFrame', 'count'], ['interval', 'count'], ['window', 'count'], ['caps', 'count'], ['prefix', 'text'], ['agent', 'text'],
    ['used', 'number'], ['probe', 'count'], ['good', 'count'], ['bad', 'count'], ['call', 'count'],
  ),
  welcome: specs(
    ['address', 'text'], ['device', 'text'], ['cursor', 'count'], ['time', 'count'], ['interval', 'count'], ['maxFrame', 'count'],
    ['window', 'count'], ['inflight', 'count'], ['peers', 'count'], ['caps', 'count'], ['expires', 'count'],
    ['good', 'count'], ['bad', 'count'],
  ),
  set: specs(['token', 'text'], ['interval', 'count'], ['window', 'count'], ['expires', 'count'], ['good', 'count'], ['bad', 'count'],
    ['hold', 'number'], ['normal', 'count']),
  close: specs(['code', 'code'], ['text', 'text'], ['back', 'number']),
};

/** The version of the protocol that this package speaks. */
export const version = { major: 1, minor: 0 };

const hasVersion = (f: Listed): f is Hello | Welcome => f.type === 'hello' || f.type === 'welcome';

export function writeListed(w: Writer, f: Listed): void {
  if (hasVersion(f)) {
    w.uvarint(f.major);
    w.uvarint(f.minor);
  }
  const put = (n: number, value: Uint8Array) => {
    w.uvarint(n);
    w.uvarint(value.length);
    w.bytes(value);
  };
  const values = f as unknown as Record<string, string | number | undefined>;
  const unknown = [...(f.unknown ?? [])];
  for (const s of listed[f.type]) {
    for (let u = unknown[0]; u && u.number < s.n; u = unknown[0]) {
      if (u.number === 0) return w.bytes(u.value); // the rest of another version's Hello
      put(u.number, u.value);
      unknown.shift();
    }
    const v = encodeField(s, values[s.name]);
    if (v) put(s.n, v);
  }
  for (const u of unknown) put(u.number, u.value);
}

function encodeField(s: Spec, v: string | number | undefined): Uint8Array | undefined {
  if (v === undefined || v === '' || (v === 0 && s.kind === 'count')) return undefined;
  if (s.kind === 'text') return utf8(String(v));
  const w = new Writer();
  const n = s.kind === 'code' ? (unword(closeWords, String(v)) ?? 0) : Number(v);
  if (n === 0 && s.kind === 'code') return undefined;
  w.uvarint(n);
  return w.done();
}

export function readListed(type: Listed['type'], payload: Uint8Array): Listed {
  const r = new Reader(payload);
  const f = { type } as Record<string, unknown>;
  if (type === 'hello' || type === 'welcome') {
    f['major'] = r.uvarint();
    f['minor'] = r.uvarint();
    // If the major version is not ours the rest of a Hello is not looked at:
    // that much of it is the same in all versions.
    if (type === 'hello' && f['major'] !== version.major) {
      if (r.left > 0) f['unknown'] = [{ number: 0, value: r.rest() }];
      return f as unknown as Listed;
    }
  }
  const unknown: Field[] = [];
  for (let last = 0; r.left > 0; ) {
    const n = r.uvarint();
    if (n <= last) throw malformed(`field ${n} out of order`);
    last = n;
    const value = r.bytes(r.uvarint());
    const s = listed[type][n - 1];
    if (s) f[s.name] = decodeField(s, value);
    else unknown.push({ number: n, value });
  }
  if (unknown.length > 0) f['unknown'] = unknown;
  if (type === 'close') f['code'] ??= 'code-0';
  return f as unknown as Listed;
}

function decodeField(s: Spec, value: Uint8Array): string | number {
  const r = new Reader(value);
  if (s.kind === 'text') {
    if (value.length === 0) throw malformed(`field ${s.n} is empty`);
    return r.text(value.length);
  }
  const v = s.kind === 'number' ? r.uvarint() : r.positive();
  r.end();
  return s.kind === 'code' ? word(closeWords, v) : v;
}
