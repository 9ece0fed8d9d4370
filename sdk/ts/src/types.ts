// What an application gives and is given.

import type { Urgency } from './codec/codes.js';
import type { Attr } from './codec/message.js';

export type { Attr, Urgency };

/** A message to be sent. */
export interface Draft {
  /** An address: "bob" or "bob@example.org". */
  to: string;
  /** The message as text. A message has a body or data, or neither. */
  body?: string;
  /** The message as bytes. */
  data?: Uint8Array;
  /** Makes a repetition harmless: the same id is stored once. A fresh one by default. */
  id?: string;
  /** The media type; text/plain by default, application/octet-stream for data. */
  type?: string;
  /** For how many milliseconds the message is worth delivering; for ever by default. */
  expires?: number;
  /** How much it matters to a device that saves its battery; "normal" by default. */
  urgency?: Urgency;
  /** Properties that travel with the message, in this order; a name may occur more than once. */
  attrs?: Attr[];
}

/** Says that a message is durable: the server has it on disk. */
export interface Receipt {
  id: string;
  /** Its place in the recipient's box. */
  seq: number;
  /** The server had it already: an earlier try had arrived. */
  duplicate: boolean;
}

const text = new TextDecoder();

/** A message received. */
export class Message {
  /** Its place in the box. Places only grow; they may have holes. */
  readonly seq: number;
  /** The place of the message before it, as this device sees the box. */
  readonly prev: number;
  /** The id that the sender gave it. */
  readonly id: string;
  readonly from: string;
  readonly to: string;
  /** The sender's device, empty if it is not told. */
  readonly device: string;
  readonly time: Date;
  readonly expires: Date | undefined;
  /** The media type; text/plain; charset=utf-8 if the sender gave none. */
  readonly type: string;
  readonly urgency: Urgency;
  readonly attrs: Attr[];
  readonly data: Uint8Array;
  /**
   * If not zero, the body has so many bytes, more than this device takes
   * (Options.maxMessage), and data is empty.
   */
  readonly left: number;

  constructor(m: Omit<Message, 'attr' | 'body' | 'json'>) {
    this.seq = m.seq;
    this.prev = m.prev;
    this.id = m.id;
    this.from = m.from;
    this.to = m.to;
    this.device = m.device;
    this.time = m.time;
    this.expires = m.expires;
    this.type = m.type;
    this.urgency = m.urgency;
    this.attrs = m.attrs;
    this.data = m.data;
    this.left = m.left;
  }

  /** The value of the first property of a name. */
  attr(name: string): string | undefined {
    return this.attrs.find(([n]) => n === name)?.[1];
  }

  /** The data as text. */
  get body(): string {
    return text.decode(this.data);
  }

  /** The data as JSON. It throws if it is none. */
  json(): unknown {
    return JSON.parse(this.body);
  }
}

/** One reader of the mailbox. */
export interface Device {
  name: string;
  /** How it is connected: "link", "poll", "xmpp" or "mqtt"; empty if it is not. */
  way: string;
  /** When it last connected or acknowledged. */
  seen: Date;
  /** How many places it has not acknowledged: at most so many messages. */
  behind: number;
}

/** There is no connection for what needs one, or it broke before the answer. */
export class OfflineError extends Error {
  override name = 'OfflineError';
}

/** A word of the moment. */
export interface Signal {
  /** The sender's address. */
  from: string;
  device: string;
  /** "composing", "paused", "active", "inactive", "gone"; "online", "offline", "ask"; or the application's own. */
  kind: string;
  data: Uint8Array;
}

/** Why a message is refused. A newer server may have other reasons, which are code- and a number. */
export type RefusedCode =
  | 'unknown-recipient' // there is no such recipient
  | 'too-large' // for the server
  | 'conflict' // the id was used before, for another message
  | 'invalid' // it holds what it may not
  | 'forbidden' // the sender may not write there
  | 'remote' // the recipient is at a server that cannot be reached
  | 'expired' // before it could be sent
  | `code-${number}`;

/** The server will not store a message. */
export class RefusedError extends Error {
  override name = 'RefusedError';
  readonly id: string;
  readonly code: RefusedCode;

  constructor(id: string, code: string, text = '') {
    super(`refused: ${code}${text === '' ? '' : `: ${text}`}`);
    this.id = id;
    this.code = code as RefusedCode;
  }
}

/** Why a client is closed. A newer server may have other reasons, which are code- and a number. */
export type ClosedCode =
  | 'done' // the application has closed it
  | 'denied' // the credentials are not good
  | 'expired' // the token has ended, and nothing brings another
  | 'replaced' // the same device has connected elsewhere
  | 'removed' // the device or the account was removed, or its password changed
  | 'insecure' // a password, and no TLS
  | 'forbidden' // to a page of this origin
  | 'upgrade-required' // the server does not speak this version of the protocol
  | 'wrong-account' // the store is of another
  | 'store' // the store cannot be loaded
  | 'protocol' // this client broke the protocol: a bug, as are the next two
  | 'frame-too-long'
  | 'bad-ack'
  | `code-${number}`;

/** Why a connection ended, or did not come about. */
export type EndCode =
  | ClosedCode
  | 'lost' // something on the way, or the server has died
  | 'network' // it was changed
  | 'token' // none came
  | 'in-use' // the store, by another page
  | 'place' // it began elsewhere than wanted
  | 'draining' // the server restarts
  | 'busy' // the server has too much to do
  | 'idle' // the server heard nothing for too long
  | 'timeout' // the server heard no hello
  | 'internal'; // the server failed

/** The client is closed: by the application, or because the server does not want it back. */
export class ClosedError extends Error {
  override name = 'ClosedError';
  readonly code: ClosedCode;
  /** More, for people; perhaps empty. */
  readonly text: string;

  constructor(code: string, text = '') {
    super(`closed: ${code}${text === '' ? '' : `: ${text}`}`);
    this.code = code as ClosedCode;
    this.text = text;
  }
}

/** How the client is connected. */
export interface ConnectionState {
  /** "waiting" is for the next attempt, "closed" is for good. */
  state: 'connecting' | 'online' | 'waiting' | 'closed';
  /** The way it is connected, or tries to. */
  way?: 'tcp' | 'websocket' | 'poll';
  /** Milliseconds to the next attempt, when waiting. */
  again?: number;
  /** Why the last connection ended, and more for people. */
  reason?: { code: EndCode; text: string };
}

/** What a client tells, by the name of the event. */
export interface Events {
  state: ConnectionState;
  /** A message is in the store, by its id: it will be sent, by the next program if not by this. */
  queued: string;
  /** A message is stored at the server. Also those that were queued before a restart. */
  stored: Receipt;
  /** The server will not store a message. Also those that were queued before a restart. */
  refused: RefusedError;
  /** Somebody says something of the moment: that he is typing, is online. It comes now or never. */
  signal: Signal;
  /** Messages behind after and before before are gone from the server and will not come. */
  gap: { after: number; before: number };
  /** The handler of messages threw, or the store failed. The client goes on. */
  error: unknown;
}
