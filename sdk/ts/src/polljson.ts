// What is said over HTTP, and how it is put into the words of the ways.

import type { Entry } from './store/store.js';
import { type Attr, Message, type Urgency } from './types.js';
import { type End, lost } from './way.js';

/** A message, in the JSON of GET /v1/inbox. */
export interface Item {
  seq: number;
  prev: number;
  id: string;
  from: string;
  to: string;
  device?: string;
  time: string;
  type: string;
  body?: string;
  body64?: string;
  expires?: string;
  urgency?: Urgency;
  attrs?: Attr[];
}

export interface Inbox {
  messages: Item[];
  next: string;
  trimmed?: { from: number; to: number };
}

/** An error document (RFC 9457). */
export interface Problem {
  type: string;
  title?: string;
  detail?: string;
  field?: string;
}

export interface Result {
  seq: number;
  duplicate?: boolean;
  problem?: Problem;
}

/** The link protocol's words for refusals, by the problem's. */
const refusals: Record<string, string> = {
  'unknown-recipient': 'unknown-recipient',
  'bad-recipient': 'unknown-recipient',
  'too-large': 'too-large',
  'id-conflict': 'conflict',
  unavailable: 'unavailable',
  'remote-domain': 'remote',
  forbidden: 'forbidden',
  internal: 'internal',
};

/** Problems that another attempt will not mend: the reason to close. */
const finals: Record<string, string> = {
  'not-authorized': 'denied',
  'token-expired': 'expired',
  insecure: 'insecure',
  'cross-origin': 'forbidden',
  forbidden: 'denied',
};

const kind = (p: Problem) => p.type.replace('urn:posthouse:problem:', '');
const detail = (p: Problem) => p.detail ?? p.title ?? '';

/** Why a message was refused, in the link protocol's words. */
export function refusal(p: Problem): { code: string; text: string } {
  return { code: refusals[kind(p)] ?? 'invalid', text: detail(p) };
}

/** An answer that is not the one that was hoped for. */
export class HttpError extends Error {
  readonly status: number;
  readonly problem: Problem | undefined;
  readonly retry: number | undefined;

  constructor(status: number, problem: Problem | undefined, retry: number | undefined) {
    super(problem ? `${kind(problem)}: ${detail(problem)}` : `HTTP status ${status}`);
    this.status = status;
    this.problem = problem;
    this.retry = retry;
  }

  get kind(): string {
    return this.problem ? kind(this.problem) : '';
  }

  /** Whether it is about the messages that were posted, and not about who posts or when. */
  get ofMessages(): boolean {
    if (!this.problem || this.status === 401 || this.status === 429 || this.status >= 500) return false;
    return this.kind === 'forbidden' || finals[this.kind] === undefined;
  }
}

/** The server was asked whether it is there, and did not answer. */
export class Unheard extends Error {}

export function reason(e: unknown): End {
  if (e instanceof Unheard) return { ...lost(e.message), unheard: true };
  if (!(e instanceof HttpError)) return lost(e instanceof Error ? e.message : String(e));
  const final = finals[e.kind];
  if (final) return { told: true, code: final, text: e.message, ...(final === 'expired' ? { back: 0 } : {}) };
  const end = lost(e.message);
  return e.retry === undefined ? end : { ...end, told: true, code: e.kind || 'busy', back: e.retry };
}

export function message(m: Item): Message {
  const data = m.body64 !== undefined ? Uint8Array.from(atob(m.body64), (c) => c.charCodeAt(0)) : new TextEncoder().encode(m.body ?? '');
  return new Message({
    seq: m.seq, prev: m.prev, id: m.id, from: m.from, to: m.to, device: m.device ?? '', time: new Date(m.time),
    expires: m.expires === undefined ? undefined : new Date(m.expires), type: m.type, urgency: m.urgency ?? 'normal', attrs: m.attrs ?? [], data, left: 0,
  });
}

export function draft(e: Entry, now: number): unknown {
  return {
    to: e.to, id: e.id, ...content(e),
    ...(e.expires === 0 ? {} : { expires: Math.max(e.expires - now, 1) / 1000 }),
    ...(e.urgency === 'normal' ? {} : { urgency: e.urgency }),
    ...(e.attrs.length === 0 ? {} : { attrs: e.attrs }),
  };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function content(e: Entry): object {
  if (e.type !== '') return { type: e.type, body64: base64(e.data) };
  try {
    return { body: utf8.decode(e.data) };
  } catch {
    return { type: 'text/plain; charset=utf-8', body64: base64(e.data) };
  }
}

export function base64(data: string | Uint8Array): string {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
  let s = '';
  for (let i = 0; i < bytes.length; i += 8192) s += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(s);
}
