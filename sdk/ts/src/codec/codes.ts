/** Why a side closes: the number on the wire is the index. */
export const closeWords = [
  '',
  'done', // the client is done; it goes of its own will
  'protocol', // the peer broke the protocol
  'upgrade-required', // the other side does not speak this version
  'denied', // the credentials are not good
  'busy', // too many attempts, or too much to do
  'expired', // the token has ended: bring a fresh one
  'replaced', // the same device has connected again
  'removed', // the account was removed, or its password changed
  'draining', // the server restarts
  'idle', // nothing was heard for too long
  'frame-too-long', // a frame over the agreed size
  'bad-ack', // an acknowledgement of what was never sent
  'internal', // the server failed
  'insecure', // a password on a connection that others can read
  'timeout', // no HELLO in time
] as const;

/** Why a send was refused: the number on the wire is the index. */
export const refusedWords = [
  '',
  'unknown-recipient', // there is no such recipient
  'too-large', // the message is too large
  'conflict', // the id was used before, for another message
  'unavailable', // the server cannot store at present; try again later
  'invalid', // the message holds what it may not
  'forbidden', // the sender may not write there
  'remote', // the recipient is at another server
  'internal', // the server failed; try again later
] as const;

/** RFC 8030's words (section 5.3): the number on the wire is the index. */
export const urgencyWords = ['normal', 'very-low', 'low', 'high'] as const;

/** How much a message matters to a device that saves its battery (RFC 8030, section 5.3). */
export type Urgency = (typeof urgencyWords)[number];

/** Media types that have a number: the index. Text without a type has none at all. */
export const mediaTypes = [
  '',
  'application/octet-stream',
  'application/json',
  'application/cbor',
  'text/markdown',
  'text/html',
  'image/jpeg',
  'image/png',
  'image/webp',
  'audio/ogg',
] as const;

/** The word of a number; code-99 for one that this version does not know. */
export function word(words: readonly string[], n: number): string {
  return (n > 0 && words[n]) || `code-${n}`;
}

/** The number of a word, undefined if there is none. */
export function unword(words: readonly string[], s: string): number | undefined {
  const n = s === '' ? -1 : words.indexOf(s);
  if (n > 0) return n;
  const m = /^code-(\d+)$/.exec(s);
  return m ? Number(m[1]) : undefined;
}

/** Whether the same message may be stored when it is sent later. */
export function again(refused: string): boolean {
  return refused === 'unavailable' || refused === 'internal';
}
