// What a client and its ways to the server know of each other. A way makes
// connections; a connection is used once.

import type { Outcome } from './learn.js';
import type { Entry } from './store/store.js';
import type { Device, Message, Signal } from './types.js';

/** What a connection says when it begins. */
export interface Login {
  token?: string;
  user?: string;
  password?: string;
  device?: string;
  /** Everything up to here is on the device; undefined if it is not sure that the place is of this account. */
  after?: number;
  network?: string;
  /** Milliseconds between heartbeats, if it should not be as the server advises. */
  interval?: number;
}

/** Why a connection ended. */
export interface End {
  /** The server said so; otherwise it is only lost. */
  told: boolean;
  code: string;
  text: string;
  /** Milliseconds after which to come back. Undefined: do not, if it was told. */
  back?: number;
  /** A heartbeat was not answered: the connection is dead, the network perhaps not. */
  unheard?: boolean;
  /** The heartbeat was due: the silence before it may have been too long. */
  due?: boolean;
  /** What was not answered came after such a silence, in milliseconds. */
  silence?: number;
}

export const lost = (text: string): End => ({ told: false, code: 'lost', text });

export interface Welcomed {
  address: string;
  device: string;
  /** Messages begin after this place; undefined if the way does not tell. */
  cursor?: number;
  /** The place that the server was asked to begin after. */
  asked?: number | undefined;
  /** When the token ends and what time it is, by the server's clock. */
  expires?: number;
  time?: number;
  /** Whether the server helps to learn, what others found on this network, and how often it is agreed to speak. */
  helps?: boolean;
  good?: number;
  bad?: number;
  interval?: number;
}

/** The client, as a connection sees it. */
export interface Owner {
  /** It is logged in. The answer is where to begin; undefined: where the server thinks. */
  welcomed(w: Welcomed): number | undefined;
  message(m: Message): void;
  /** Everything up to here will not come. */
  gap(to: number): void;
  /** Somebody says something of the moment. */
  signalled(s: Signal): void;
  /** Answers the oldest question for devices. */
  devices(list: Device[]): void;
  /** The next message to be sent, which the connection answers or returns. */
  take(): Entry | undefined;
  stored(e: Entry, seq: number, duplicate: boolean): void;
  refused(e: Entry, code: string, text: string): void;
  /** The server was heard after such a silence. */
  survived(silence: number): void;
  /** The server has taken a fresh token, which ends then. */
  renewed(expires: number): void;
  /** Called last, with what was not answered. */
  ended(end: End, unanswered: Entry[]): void;
  trace(line: () => string): void;
}

/** Who tries out a silence. */
export interface ProbeOwner {
  /** Called once, last. */
  ended(how: Outcome): void;
  trace(line: () => string): void;
}

/** What may be changed while a connection lives. */
export interface Change {
  token?: string;
  /** Milliseconds between heartbeats. */
  interval?: number;
  /** What was found of the network, in milliseconds. */
  good?: number;
  bad?: number;
  /** For how many milliseconds messages that can wait may be held; 0 is the foreground. */
  hold?: number;
  /** 1: those of normal urgency, too. */
  normal?: number;
}

/** One connection. */
export interface Connection {
  /** There is something to send. */
  work(): void;
  /** The application has everything up to here. */
  handled(place: number, more: boolean): void;
  /** Says something of the moment; false if that cannot be. */
  signal(to: string, kind: string, data: Uint8Array): boolean;
  /** Asks for the devices, after one has been removed unless forget is empty; false if that cannot be. */
  devices(forget: string): boolean;
  /** Changes what was agreed. */
  set(change: Change): void;
  /** When bytes came last, if the way can tell. */
  readonly heard?: number;
  /** Asks whether the server is still there, and gives it so long to answer at most. */
  check(patience?: number): void;
  /** Says goodbye and ends. */
  close(): Promise<void>;
  /** Ends at once. The result is what was not answered. */
  drop(): Entry[];
}

/** A stream of bytes in both directions. */
export interface Carrier {
  send(bytes: Uint8Array): void;
  close(): void;
}

export interface CarrierEvents {
  open(): void;
  data(bytes: Uint8Array): void;
  /** Called once, last. Reset: the other end says, or something on the way, that it knows no such connection. */
  closed(why: string, reset?: boolean): void;
}

/** Begins to open a carrier. */
export type Dial = (on: CarrierEvents) => Carrier;

/** Makes a connection of a way that was found open. */
export type Go = (login: Login, owner: Owner) => Connection;

export interface Way {
  readonly name: 'tcp' | 'websocket' | 'poll';
  open(login: Login, owner: Owner): Connection;
  /**
   * Tries out a silence on a connection of its own; undefined only looks whether
   * a fresh one works, and survives if so. The result gives it up.
   */
  probe?(login: Login, silence: number | undefined, owner: ProbeOwner): () => void;
  /** Looks whether the way is open, without logging in. The result gives it up, as long as go was not called. */
  knock?(answer: (go: Go | undefined) => void): () => void;
}
