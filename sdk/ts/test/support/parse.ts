// Reads the text form of frames, in which dialogues and vectors are written.

import { closeWords, refusedWords, unword, urgencyWords, word } from '../../src/codec/codes.js';
import { listed, type Listed } from '../../src/codec/fields.js';
import type { Frame } from '../../src/codec/frame.js';
import { type Attr, type Msg, newMsg, newSend, type Peer, type Send } from '../../src/codec/message.js';

const empty = new Uint8Array(0);

export function unhex(s: string): Uint8Array {
  return Uint8Array.from(s.match(/../g) ?? [], (c) => parseInt(c, 16));
}

/** Reads a frame and the acknowledgement on its back. */
export function parse(line: string): { frame: Frame; ack: number } {
  const { words, body } = split(line);
  const verb = words.shift() ?? '';
  const ack = words[0]?.startsWith('ack+') ? Number(words.shift()!.slice(4)) : 0;
  const frame = parseFrame(verb, words, body);
  if (words.length > 0) throw new Error(`what is ${words[0]} in ${line}`);
  return { frame, ack };
}

/** Cuts a line into words, which may hold quoted strings, and a body. */
function split(s: string): { words: string[]; body: Uint8Array } {
  const words: string[] = [];
  for (s = s.trimStart(); s !== ''; s = s.trimStart()) {
    if (words.length > 0 && s[0] === ':') return { words, body: new TextEncoder().encode(s.slice(1)) };
    if (words.length > 0 && s[0] === '#') return { words, body: unhex(s.slice(1)) };
    const m = /^(?:[^\s"]|"(?:[^"\\]|\\.)*")+/.exec(s);
    if (!m) throw new Error(`cannot read ${s}`);
    words.push(m[0]);
    s = s.slice(m[0].length);
  }
  return { words, body: empty };
}

const unquote = (s: string): string => (s.startsWith('"') ? (JSON.parse(s) as string) : s);

function list(s: string): string[] {
  return [...s.matchAll(/("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)/g)].map((m) => unquote(m[1]!));
}

function prefixed(words: string[], prefix: string): string | undefined {
  return words[0]?.startsWith(prefix) ? words.shift()!.slice(prefix.length) : undefined;
}

/** Reads 4m30s. */
export function millis(s: string): number {
  if (/^\d+$/.test(s)) return Number(s);
  const unit: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3600_000 };
  const parts = [...s.matchAll(/([0-9.]+)(ms|[hms])/g)];
  if (parts.length === 0) throw new Error(`not a duration: ${s}`);
  return Math.round(parts.reduce((sum, [, n, u]) => sum + Number(n) * unit[u!]!, 0));
}

function recipient(s: string): Peer {
  const [n, ...rest] = s.split('=');
  return { n: Number(n), ...(rest.length > 0 ? { define: { address: unquote(rest.join('=')), device: '', prefix: '' } } : {}) };
}

function peer(s: string): Peer {
  const [n, ...rest] = s.split('=');
  if (rest.length === 0) return { n: Number(n) };
  const [address = '', device = '', prefix = ''] = list(rest.join('='));
  return { n: Number(n), define: { address, device, prefix } };
}

function parseFrame(verb: string, words: string[], body: Uint8Array): Frame {
  switch (verb) {
    case 'HELLO':
    case 'WELCOME':
    case 'SET':
    case 'CLOSE':
      return fields(verb.toLowerCase() as Listed['type'], words);
    case 'PING':
    case 'PONG':
      return { type: verb === 'PING' ? 'ping' : 'pong', payload: body };
    case 'ACK':
    case 'TRIMMED':
      return { type: verb === 'ACK' ? 'ack' : 'trimmed', step: Number(words.shift()) };
    case 'STORED':
      return {
        type: 'stored',
        runs: words.splice(0).map((w) => {
          const m = /^(\d+)([+-]\d+)(dup)?$/.exec(w);
          if (!m) throw new Error(`not a run: ${w}`);
          return { count: Number(m[1]), step: Number(m[2]), duplicate: m[3] !== undefined };
        }),
      };
    case 'REFUSED':
      return { type: 'refused', code: word(refusedWords, unword(refusedWords, words.shift()!)!), text: unquote(prefixed(words, 'text=') ?? '') };
    case 'SEND': {
      const f = newSend(recipient(words.shift()!));
      id(f, words);
      properties(f, words);
      f.deflated = Number(prefixed(words, 'deflated=') ?? 0);
      return { ...f, body };
    }
    case 'SIGNAL':
      return { type: 'signal', to: recipient(words.shift()!), kind: unquote(words.shift()!), body };
    case 'DEVICES':
      return { type: 'devices', forget: unquote(prefixed(words, 'forget=') ?? '') };
    case 'DEVICELIST':
      return {
        type: 'devicelist',
        devices: words.splice(0).map((w) => {
          const [name = '', way = '', seen = '', behind = ''] = list(w);
          return { name, way: way === '-' ? '' : way, seen: /^\d+$/.test(seen) ? Number(seen) : Date.parse(seen), behind: Number(behind) };
        }),
      };
    case 'SIGNALLED':
      return { type: 'signalled', from: peer(words.shift()!), kind: unquote(words.shift()!), body };
    case 'MSG': {
      const step = Number(words.shift());
      const prev = Number(prefixed(words, 'prev-') ?? 0);
      const f = { ...newMsg(peer(words.shift()!)), step, prev, body };
      id(f, words);
      f.time = Number(words.shift()!.replace(/ms$/, ''));
      properties(f, words);
      f.left = Number(prefixed(words, 'left=') ?? 0);
      f.deflated = Number(prefixed(words, 'deflated=') ?? 0);
      return f;
    }
  }
  if (!verb.startsWith('0x')) throw new Error(`no such frame: ${verb}`);
  return { type: 'unknown', number: parseInt(verb, 16), payload: body };
}

function id(f: Send | Msg, words: string[]): void {
  const text = prefixed(words, 'id=');
  if (text !== undefined) f.id = unquote(text);
  else if (/^id[+-]\d+$/.test(words[0] ?? '')) f.id = Number(words.shift()!.slice(2));
}

function properties(f: Send | Msg, words: string[]): void {
  f.media = unquote(prefixed(words, 'type=') ?? '');
  const urgency = prefixed(words, 'urgency=') ?? 'normal';
  const known = urgencyWords.find((w) => w === urgency);
  if (!known) throw new Error(`no such urgency: ${urgency}`);
  f.urgency = known;
  const to = f.type === 'msg' ? prefixed(words, 'to=') : undefined;
  if (to !== undefined) (f as Msg).to = peer(to);
  f.expires = millis(prefixed(words, 'expires=') ?? '0');
  for (let a = prefixed(words, 'attr='); a !== undefined; a = prefixed(words, 'attr=')) f.attrs.push(list(a).slice(0, 2) as Attr);
}

function fields(type: Listed['type'], words: string[]): Listed {
  const f: Record<string, unknown> = { type };
  if (type === 'hello' || type === 'welcome') [f['major'], f['minor']] = words.shift()!.split('.').map(Number);
  if (type === 'close') f['code'] = 'code-0';
  for (const w of words.splice(0)) {
    const [name, ...rest] = w.split('=');
    const value = rest.join('=');
    const s = listed[type].find((s) => s.name.toLowerCase() === name);
    if (!s) {
      f['unknown'] = [...((f['unknown'] as unknown[]) ?? []), { number: Number(name), value: unhex(value.slice(1)) }];
    } else if (s.kind === 'text') {
      f[s.name] = unquote(value);
    } else if (s.kind === 'code') {
      f[s.name] = word(closeWords, unword(closeWords, value)!);
    } else if (['interval', 'back', 'probe', 'good', 'bad', 'hold'].includes(name!)) {
      f[s.name] = millis(value);
    } else if (name === 'time' || name === 'expires') {
      f[s.name] = /^\d+$/.test(value) ? Number(value) : Date.parse(value);
    } else {
      f[s.name] = Number(value);
    }
  }
  return f as unknown as Listed;
}
