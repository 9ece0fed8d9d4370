import { Client } from './client.js';
import type { Store } from './store/store.js';
import { memoryStore } from './store/memory.js';
import { realClock } from './clock.js';
import { platformDeflate } from './deflate.js';
import { bounds } from './learn.js';
import { LinkWay } from './linkway.js';
import { PollWay } from './pollway.js';
import { type SocketConstructor, webSocketDial } from './websocket.js';
import type { Dial, Way } from './way.js';

export interface Options {
  /**
   * Where the server is: https://example.org is tried by WebSocket and then by
   * long poll; wss://… is a WebSocket alone. In Node links://host:7400 is TLS
   * and link://host:7400 plain TCP. A list is tried in its order.
   */
  url: string | string[];
  /** A token, or a function that brings a fresh one: before each connection, and before the last one ends. */
  token?: string | (() => string | Promise<string>);
  /** A name and its password, instead of a token. */
  user?: string;
  password?: string;
  /** Which reader of the mailbox this is: "phone", "web-3f9a". Each has a place of its own. Default "web", in Node "node". */
  device?: string;
  /** Keeps the place and what is not sent yet. In memory by default, which ends with the program. */
  store?: Store;
  /** Names the network that the device is on, in any words that tell it from others. */
  network?: string;
  /** Between how many milliseconds it is looked for the longest silence that the network bears: 15,000, which are used until more is known, and 1,800,000 by default. */
  learn?: { min?: number; max?: number };
  /**
   * In the background, for how many milliseconds the server may hold messages
   * of the urgencies very-low and low, until a heartbeat or something else
   * wakes the device. As long as the server allows by default (10 minutes);
   * 0 is not at all.
   */
  hold?: number;
  /** Whether it may hold those of normal urgency, too. */
  holdNormal?: boolean;
  /** Is asked whether a user who wants to know may know that this device is online. Nobody by default. */
  showTo?: (address: string) => boolean;
  /** The longest message to take, in bytes; a longer one comes without its data. 16 MiB by default. */
  maxMessage?: number;
  /** Is given each frame in its text form, without secrets. */
  trace?: (line: string) => void;
  /** Instead of the platform's own. */
  WebSocket?: SocketConstructor;
  fetch?: typeof fetch;
}

/** What a platform brings. */
export interface Platform {
  device: string;
  WebSocket: SocketConstructor | undefined;
  tcp: ((host: string, port: number, tls: boolean) => Dial) | undefined;
}

const agent = 'posthouse-ts 1.0';
const defaultMaxMessage = 16 << 20;
const defaultPort = 7400;
const shortestBeat = 1000;

export function connectOn(platform: Platform, o: Options): Client {
  const { maxMessage = defaultMaxMessage, hold, learn } = o;
  if (!(Number.isSafeInteger(maxMessage) && maxMessage > 0)) throw new RangeError(`maxMessage is a number of bytes: ${maxMessage}`);
  if (hold !== undefined && !(Number.isSafeInteger(hold) && hold >= 0)) throw new RangeError(`hold is a number of milliseconds: ${hold}`);
  const { min, max } = { ...bounds, ...learn };
  if (!(Number.isFinite(max) && min >= shortestBeat && max >= min)) throw new RangeError(`learn bounds a silence in milliseconds, of a second at least: ${min} to ${max}`);
  const prefix = randomPrefix();
  const link = { clock: realClock, prefix, agent, maxMessage, deflate: platformDeflate() };
  const WebSocket = o.WebSocket ?? platform.WebSocket;
  const fetch = o.fetch ?? globalThis.fetch.bind(globalThis);
  const webSocket = (url: URL): Way[] =>
    WebSocket ? [new LinkWay('websocket', { ...link, dial: webSocketDial(url.href, WebSocket) })] : [];

  const ways = [o.url].flat().flatMap((text): Way[] => {
    const url = new URL(text);
    switch (url.protocol) {
      case 'http:':
      case 'https:': {
        const base = url.origin + url.pathname.replace(/\/$/, '');
        const ws = new URL(base + '/link');
        ws.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
        return [...webSocket(ws), new PollWay({ base, clock: realClock, fetch })];
      }
      case 'ws:':
      case 'wss:':
        return webSocket(url);
      case 'link:':
      case 'links:': {
        if (!platform.tcp) throw new TypeError(`${text}: there is no TCP here`);
        return [new LinkWay('tcp', { ...link, dial: platform.tcp(url.hostname, Number(url.port) || defaultPort, url.protocol === 'links:') })];
      }
    }
    throw new TypeError(`${text}: not a way to a server`);
  });
  if (ways.length === 0) throw new TypeError('no way to the server: there is no WebSocket here');

  return new Client(
    {
      credentials: credentials(o), device: o.device ?? platform.device, network: o.network ?? '', store: o.store ?? memoryStore(), trace: o.trace,
      ...(learn ? { learn } : {}), ...(hold === undefined ? {} : { hold }), holdNormal: o.holdNormal ?? false, ...(o.showTo ? { showTo: o.showTo } : {}),
    },
    { ways, clock: realClock, random: Math.random, prefix },
  );
}

function credentials(o: Options) {
  const { token, user, password } = o;
  if (token !== undefined) return { token: typeof token === 'string' ? token : async () => token() };
  if (user === undefined || password === undefined) throw new TypeError('a client needs a token, or a user and a password');
  return { user, password };
}

/** Ten characters: enough that no two clients have the same. */
function randomPrefix(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  return Array.from(bytes, (b) => 'abcdefghijklmnopqrstuvwxyz234567'[b % 32]).join('');
}
