// The text form of a frame: the type, words, and the body behind a colon, or in
// hexadecimal behind a # when it is not printable text. Traces and dialogues
// are written in it. Secrets are left out.
//
//	SEND 0=bob id=m1 :hello
//	MSG +1 0=alice@example.org,phone,k3 +12ms :hello
//	STORED 3+1 ack+2

import { listed, type Listed, type Spec } from './fields.js';
import type { Frame } from './frame.js';
import type { Msg, Peer, Send } from './message.js';

/** The text form of a frame with an acknowledgement on its back. */
export function format(f: Frame, ack = 0): string {
  const [verb, ...rest] = words(f);
  return [verb, ...(ack > 0 ? [`ack+${ack}`] : []), ...rest].join(' ');
}

function words(f: Frame): string[] {
  switch (f.type) {
    case 'ping':
    case 'pong':
      return [f.type.toUpperCase(), ...body(f.payload)];
    case 'ack':
    case 'trimmed':
      return [f.type.toUpperCase(), `+${f.step}`];
    case 'stored':
      return ['STORED', ...f.runs.map((r) => `${r.count}${signed(r.step)}${r.duplicate ? 'dup' : ''}`)];
    case 'refused':
      return ['REFUSED', f.code, ...(f.text === '' ? [] : [`text=${quote(f.text)}`])];
    case 'send':
      return ['SEND', recipient(f.to), ...id(f), ...properties(f), ...deflated(f), ...body(f.body)];
    case 'msg':
      return [
        'MSG', `+${f.step}`, ...(f.prev === 0 ? [] : [`prev-${f.prev}`]), peer(f.from), ...id(f), `${signed(f.time)}ms`,
        ...properties(f), ...(f.left === 0 ? [] : [`left=${f.left}`]), ...deflated(f), ...body(f.body),
      ];
    case 'signal':
      return ['SIGNAL', recipient(f.to), quote(f.kind), ...body(f.body)];
    case 'signalled':
      return ['SIGNALLED', peer(f.from), quote(f.kind), ...body(f.body)];
    case 'devices':
      return ['DEVICES', ...(f.forget === '' ? [] : [`forget=${quote(f.forget)}`])];
    case 'devicelist':
      return ['DEVICELIST', ...f.devices.map((d) => `${quote(d.name)},${d.way || '-'},${moment(d.seen)},${d.behind}`)];
    case 'unknown':
      return ['0x' + f.number.toString(16).padStart(2, '0'), ...body(f.payload)];
    default:
      return fields(f);
  }
}

function fields(f: Listed): string[] {
  const out = [f.type.toUpperCase()];
  if (f.type === 'hello' || f.type === 'welcome') out.push(`${f.major}.${f.minor}`);
  const values = f as unknown as Record<string, string | number | undefined>;
  for (const s of listed[f.type]) {
    const v = values[s.name];
    if (v === undefined || v === '' || (v === 0 && s.kind === 'count')) continue;
    out.push(`${s.name.toLowerCase()}=${fieldText(s, v)}`);
  }
  for (const u of f.unknown ?? []) out.push(`${u.number}=#${hex(u.value)}`);
  return out;
}

const lastTime = 253402300799999; // the end of the year 9999

const moment = (v: number): string => (v <= lastTime ? new Date(v).toISOString() : String(v));

function fieldText(s: Spec, v: string | number): string {
  if (s.name === 'token' || s.name === 'password') return '***';
  if (s.kind === 'code') return String(v);
  if (typeof v === 'string') return quote(v);
  if (['interval', 'back', 'probe', 'good', 'bad', 'hold'].includes(s.name)) return duration(v);
  if (s.name === 'time' || s.name === 'expires') return moment(v);
  return String(v);
}

function id(f: Send | Msg): string[] {
  if (typeof f.id === 'string') return [`id=${quote(f.id)}`];
  return f.id === 1 ? [] : [`id${signed(f.id)}`];
}

function properties(f: Send | Msg): string[] {
  const out: string[] = [];
  if (f.media !== '') out.push(`type=${quote(f.media)}`);
  if (f.urgency !== 'normal') out.push(`urgency=${f.urgency}`);
  if (f.type === 'msg' && f.to) out.push(`to=${peer(f.to)}`);
  if (f.expires !== 0) out.push(`expires=${duration(f.expires)}`);
  for (const [name, value] of f.attrs) out.push(`attr=${quote(name)},${quote(value)}`);
  return out;
}

const deflated = (f: Send | Msg): string[] => (f.deflated === 0 ? [] : [`deflated=${f.deflated}`]);

function recipient(p: Peer): string {
  return p.define ? `${p.n}=${quote(p.define.address)}` : `${p.n}`;
}

function peer(p: Peer): string {
  if (!p.define) return String(p.n);
  return `${p.n}=${quote(p.define.address)},${quote(p.define.device)},${quote(p.define.prefix)}`;
}

const signed = (n: number) => (n < 0 ? String(n) : `+${n}`);

/** Milliseconds as 1h0m0s, 4m30s, 7.25s or 488ms. */
export function duration(ms: number): string {
  if (ms > 1e12) return String(ms); // too long to be read
  if (ms > 0 && ms < 1000) return `${ms}ms`;
  const s = `${(ms % 60_000) / 1000}s`;
  const m = Math.floor(ms / 60_000);
  if (m === 0) return s;
  return m < 60 ? `${m}m${s}` : `${Math.floor(m / 60)}h${m % 60}m${s}`;
}

const graphic = /^[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]*$/u;

function printable(s: string): boolean {
  return graphic.test(s) && !s.includes('\ufffd') && !/\s$/u.test(s);
}

/** Quotes s if it could be taken for something else. */
function quote(s: string): string {
  return s === '' || !printable(s) || /[\s"\\,=:#+]/u.test(s) ? JSON.stringify(s) : s;
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function body(p: Uint8Array): string[] {
  if (p.length === 0) return [];
  const s = decoder.decode(p);
  return [printable(s) ? `:${s}` : `#${hex(p)}`];
}

export function hex(p: Uint8Array): string {
  return Array.from(p, (c) => c.toString(16).padStart(2, '0')).join('');
}
