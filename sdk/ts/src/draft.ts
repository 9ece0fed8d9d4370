import { maxInt } from './codec/bytes.js';
import { urgencyWords } from './codec/codes.js';
import type { Entry } from './store/store.js';
import type { Attr, Draft } from './types.js';

const plainText = 'text/plain; charset=utf-8'; // which goes without saying

/**
 * Makes of a draft what the queue keeps. It throws if the draft cannot be said
 * in the protocol: in the queue it would be there for ever, and end each
 * connection that it is sent on.
 */
export function entryOf(d: Draft, freshId: () => string, now: number): Entry {
  check(typeof d.to === 'string' && d.to !== '', 'to is the address of the recipient');
  check(d.id === undefined || (typeof d.id === 'string' && d.id !== ''), 'id is a string that is not empty');
  check(d.body === undefined || typeof d.body === 'string', 'body is a string');
  check(d.data === undefined || d.data instanceof Uint8Array, 'data is a Uint8Array');
  check(d.body === undefined || d.data === undefined, 'a message has either body or data');
  check(d.type === undefined || typeof d.type === 'string', 'type is a string');
  check(d.urgency === undefined || urgencyWords.includes(d.urgency), `urgency is one of ${urgencyWords.join(', ')}`);
  check(d.attrs === undefined || (Array.isArray(d.attrs) && d.attrs.every(isAttr)), 'attrs are pairs of strings');
  check(d.expires === undefined || (d.expires > 0 && now + d.expires <= maxInt), 'expires is in milliseconds, and more than none');
  const type = d.type ?? (d.data === undefined ? '' : 'application/octet-stream');
  return {
    id: d.id ?? freshId(), to: d.to, data: d.data?.slice() ?? new TextEncoder().encode(d.body ?? ''), type: type === plainText ? '' : type,
    urgency: d.urgency ?? 'normal', attrs: (d.attrs ?? []).map(([name, value]) => [name, value]), expires: d.expires === undefined ? 0 : Math.ceil(now + d.expires),
  };
}

const isAttr = (a: Attr): boolean => Array.isArray(a) && a.length === 2 && a.every((s) => typeof s === 'string');

function check(ok: boolean, rule: string): void {
  if (!ok) throw new TypeError(`a draft that cannot be sent: ${rule}`);
}
