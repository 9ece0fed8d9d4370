// The real server, built from the project and run in a directory of its own,
// and a proxy before it that can do what bad networks do.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { project } from './paths.js';

/** Bounds what should take a moment, in milliseconds; whoever reaches it has failed. */
export const patience = 120_000;

/** Why a test cannot run here; false if it can. Where nothing may be missing it is an error. */
export function missing(tool: string, there: boolean): string | false {
  if (there) return false;
  if (process.env['POSTHOUSE_E2E'] === 'all') throw new Error(`${tool} is missing, and POSTHOUSE_E2E=all`);
  return `${tool} is missing`;
}

function hasGo(): boolean {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
    return existsSync(join(project, 'cmd', 'posthouse'));
  } catch {
    return false;
  }
}

export const withoutServer = missing('Go, to build the server with,', hasGo());

let ports = Math.floor(Math.random() * 20_000); // each is another one

/**
 * A port for a server to listen at, now and when it is started again. None that
 * the system gives to whoever asks for any, as others do at the same time.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 11_000 + (++ports % 20_000); // Linux gives from 32768 on
    const s = createServer();
    s.listen(port, '127.0.0.1');
    const free = await once(s, 'listening').then(
      () => true,
      () => false,
    );
    if (!free) continue;
    s.close();
    await once(s, 'close');
    return port;
  }
}

export class Posthouse {
  readonly #dir = mkdtempSync(join(tmpdir(), 'posthouse-ts-'));
  readonly #binary = join(this.#dir, 'posthouse');
  http = 0;
  https = 0;
  link = 0;
  links = 0;
  /** Its certificate, which it makes itself for localhost. */
  readonly certificate = join(this.#dir, 'cert.pem');
  /** What serve is told besides. */
  args: string[] = [];
  #process: ChildProcess | undefined;

  private constructor() {}

  /** A server with the users alice and bob, whose password is "secret". */
  static async open(): Promise<Posthouse> {
    const p = new Posthouse();
    execFileSync('go', ['build', '-o', p.#binary, './cmd/posthouse'], { cwd: project, stdio: 'inherit' });
    for (const user of ['alice', 'bob']) {
      execFileSync(p.#binary, ['user', 'add', user, '--password', 'secret', '--data', p.#dir], { stdio: 'ignore' });
    }
    for (const door of ['http', 'https', 'link', 'links'] as const) p[door] = await freePort();
    await p.start();
    return p;
  }

  async start(): Promise<void> {
    const at = (port: number) => `127.0.0.1:${port}`;
    const doors = ['--http', at(this.http), '--https', at(this.https), '--link', at(this.link), '--links', at(this.links), '--mqtt=', '--xmpp='];
    const p = spawn(this.#binary, ['serve', '--data', this.#dir, ...doors, ...this.args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = p;
    let log = '';
    p.stderr!.on('data', (b: Buffer) => (log = (log + b.toString()).slice(-4000)));
    for await (const line of createInterface(p.stdout!)) if (line === 'Ready.') return;
    throw new Error(`the server did not start\n${log}`);
  }

  /** As if the machine had lost its power: nothing is said to anybody. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const p = this.#process;
    if (!p || p.exitCode !== null || p.signalCode !== null) return;
    p.kill(signal);
    await once(p, 'exit');
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.#dir, { recursive: true });
  }
}

/** A TCP proxy. */
export class Proxy {
  readonly #target: number;
  readonly #server: Server;
  readonly #pairs = new Set<[Socket, Socket]>();
  port = 0;
  /** Connections are closed as they come. */
  refuse = false;
  /** WebSockets are refused in HTTP's words. */
  noUpgrade = false;
  /** A pair is cut after so many bytes of the client's. */
  budget = Infinity;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async open(target: number): Promise<Proxy> {
    const p = new Proxy(target);
    p.#server.listen(0, '127.0.0.1');
    await once(p.#server, 'listening');
    p.port = (p.#server.address() as AddressInfo).port;
    return p;
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    if (this.refuse) {
      client.destroy();
      return;
    }
    const server = connect(this.#target, '127.0.0.1');
    server.on('error', () => client.destroy());
    const pair: [Socket, Socket] = [client, server];
    this.#pairs.add(pair);
    let left = this.budget;
    client.on('data', (b) => {
      if (this.noUpgrade && /^upgrade: websocket/im.test(b.toString('latin1'))) {
        client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        return;
      }
      left -= b.length;
      if (left < 0) {
        client.destroy();
        server.destroy();
      } else if (!server.destroyed) server.write(b);
    });
    server.on('data', (b) => !client.destroyed && client.write(b));
    client.on('close', () => (server.destroy(), this.#pairs.delete(pair)));
    server.on('close', () => client.destroy());
  }

  cut(): void {
    for (const pair of this.#pairs) for (const s of pair) s.resetAndDestroy();
  }

  async close(): Promise<void> {
    this.refuse = true;
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
