// Random frames from a seed, the same each time.

import { closeWords, refusedWords, urgencyWords } from '../../src/codec/codes.js';
import { listed, type Listed } from '../../src/codec/fields.js';
import type { Frame } from '../../src/codec/frame.js';
import { type Attr, newMsg, newSend, type Peer } from '../../src/codec/message.js';

export function random(seed: number) {
  let state = seed;
  /** Mulberry32: between 0 and 1. */
  const unit = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const int = (n: number): number => Math.floor(unit() * n);
  /** Small numbers more often than great ones. */
  const size = (): number => Math.floor(2 ** (unit() * 50)) - 1;
  const pick = <T>(list: readonly T[]): T => list[int(list.length)]!;
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => int(256));
  const text = (): string => Array.from({ length: int(8) }, () => pick([...'abcXYZ019 .,=:#+"\\-@\n\té漢😀\ufeff'])).join('');
  const attrs = (): Attr[] => Array.from({ length: int(3) }, () => [text(), text()] as Attr);
  const media = (): string => pick(['', 'application/json', 'image/png', 'text/x-odd', 'application/x; a="b"']);
  const peer = (): Peer => (int(2) ? { n: int(100) } : { n: int(100), define: { address: text(), device: text(), prefix: text() } });
  const id = () => (int(2) ? 1 : int(2) ? text() || 'id' : size() - size());
  const message = () => ({
    id: text() || 'm', device: text(), time: size(), media: media(), urgency: pick(urgencyWords), attrs: attrs(), body: bytes(int(30)),
  });

  const fields = (type: Listed['type']): Listed => {
    const f: Record<string, unknown> = { type };
    if (type === 'hello' || type === 'welcome') [f['major'], f['minor']] = [1, int(9)];
    for (const s of listed[type]) {
      if (s.kind === 'code') f[s.name] = pick(closeWords.slice(1));
      else if (int(2) && s.name !== 'token' && s.name !== 'password') f[s.name] = s.kind === 'text' ? text() : size();
    }
    if (int(4) === 0) f['unknown'] = [{ number: 50 + int(50), value: bytes(int(5)) }];
    return f as unknown as Listed;
  };

  const frame = (): Frame => {
    switch (int(12)) {
      case 0:
        return fields(pick(['hello', 'welcome', 'set', 'close'] as const));
      case 11:
        if (int(2)) return { type: 'devices', forget: text() };
        return {
          type: 'devicelist',
          devices: Array.from({ length: int(4) }, () => ({ name: text() || 'd', way: pick(['', 'link', 'poll', 'xmpp', 'mqtt', 'code-9']), seen: size(), behind: size() })),
        };
      case 10: {
        const kind = pick(['composing', 'ask', 'x', text() || 'y']);
        const { n, define } = peer();
        if (int(2)) return { type: 'signal', to: define ? { n, define: { ...define, device: '', prefix: '' } } : { n }, kind, body: bytes(int(20)) };
        return { type: 'signalled', from: define ? { n, define: { ...define, prefix: '' } } : { n }, kind, body: bytes(int(20)) };
      }
      case 1:
        return { type: pick(['ping', 'pong'] as const), payload: bytes(int(33)) };
      case 2:
        return { type: 'stored', runs: Array.from({ length: 1 + int(4) }, () => ({ count: 1 + int(300), step: size() - size(), duplicate: int(2) === 1 })) };
      case 3:
        return { type: 'refused', code: pick(refusedWords.slice(1)), text: text() };
      case 4:
        return { type: pick(['ack', 'trimmed'] as const), step: 1 + size() };
      case 5:
        return { type: 'unknown', number: 0x20 + int(0x20), payload: bytes(int(20)) };
      case 6:
      case 7: {
        const to = peer();
        if (to.define) to.define = { address: to.define.address, device: '', prefix: '' };
        return { ...newSend(to), id: id(), media: media(), urgency: pick(urgencyWords), expires: int(2) * size(), attrs: attrs(), body: bytes(int(60)) };
      }
      default: {
        const left = int(6) === 0 ? 1 + size() : 0;
        return {
          ...newMsg(peer()), ...message(), id: id(), step: 1 + size(), prev: int(2) * size(), time: size() - size(), expires: int(2) * size(),
          ...(int(2) ? { to: peer() } : {}), left, body: bytes(left ? 0 : int(60)),
        };
      }
    }
  };

  /** Changes a few bytes. */
  const spoil = (p: Uint8Array): Uint8Array => {
    for (let n = int(3); n > 0; n--) p[int(p.length)] = int(256);
    return p;
  };
  return { unit, int, bytes, text, frame, message, spoil };
}
