// The server's own dialogues, in ../../transport/link/testdata, replayed from
// the client's side: what the client says there is what this client must say,
// byte for byte, when it is asked to do the same; and what the server says
// there it must understand. Those in recorded-1.0 have the bytes before the
// text: what servers said before there were further capabilities.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Hello } from '../src/codec/fields.js';
import { encode, type Frame } from '../src/codec/frame.js';
import { format, hex } from '../src/codec/text.js';
import { Pace } from '../src/pace.js';
import { Session } from '../src/session.js';
import type { Entry } from '../src/store/store.js';
import type { End } from '../src/way.js';
import { testdata } from './support/paths.js';
import { millis, parse, unhex } from './support/parse.js';
import { SendReader } from './support/server.js';

/** What this client never says, by the beginning of the line; its actor plays no part. */
const never = [/^C: HELLO .* probe=/, /^C# /, /^C: 0x/, /^C: HELLO 1\.7/, /^C: HELLO (0\.9|2\.0)/, /^C: SEND \d+ large/, /^C: SEND .* deflated=/, /^C: PING #/, /^C: ACK \+2$/];

/** One client of a dialogue. */
class Actor {
  readonly #session: Session;
  readonly #names: SendReader;
  readonly heard: string[] = [];
  #place = 0;
  end: End | undefined;

  constructor(hello: Hello, now: number) {
    const { type: _, major: _1, minor: _2, maxFrame, ...rest } = hello;
    this.#names = new SendReader(hello.prefix ?? '');
    this.#session = new Session(
      { hello: rest, maxFrame: maxFrame ?? 1 << 20, pace: new Pace() },
      {
        welcomed: (w) => (this.#place = w.cursor ?? 0),
        message: (m) => this.heard.push(`${m.seq} ${m.id} ${m.from} ${new TextDecoder().decode(m.body)}`),
        trimmed: (place) => this.heard.push(`trimmed ${place}`),
        stored: (e, seq, duplicate) => this.heard.push(`stored ${e.id} ${seq} ${duplicate}`),
        refused: (e, code) => this.heard.push(`refused ${e.id} ${code}`),
        survived: () => {},
        doubted: () => {},
        devices: (list) => this.heard.push(`${list.length} devices`),
        signalled: (from, device, kind) => this.heard.push(`${kind} ${from}/${device}`),
        renewed: (at) => this.heard.push(`renewed ${at}`),
        ended: (end) => (this.end = end),
        trace: () => {},
      },
    );
    this.#session.open(now);
  }

  /** Does what makes the client say a line, and returns what it says. */
  say(line: string, now: number): string {
    const { frame, ack } = parse(line);
    if (ack > 0) this.#session.handled((this.#place += ack), true, now);
    switch (frame.type) {
      case 'hello':
        break; // said when it began
      case 'send': {
        const e: Entry = {
          id: this.#names.id(frame.id), to: this.#names.to(frame.to), type: frame.media, data: frame.body, urgency: frame.urgency,
          expires: frame.expires === 0 ? 0 : now + frame.expires, attrs: frame.attrs,
        };
        if (!this.#session.room) return ''; // more than was allowed: this client does not
        this.#session.send(e, now);
        break;
      }
      case 'signal':
        this.#session.signal(this.#names.to(frame.to), frame.kind, frame.body, now);
        break;
      case 'devices':
        this.#session.devices(frame.forget, now);
        break;
      case 'ack':
        this.#session.handled((this.#place += frame.step), false, now);
        break;
      case 'ping':
        this.#session.check(10_000, now);
        break;
      case 'set': {
        const { type: _, ...change } = frame;
        this.#session.set(change, now);
        break;
      }
      case 'close':
        this.#session.close(now);
        break;
      default:
        throw new Error(`cannot make a client say ${line}`);
    }
    return hex(this.#session.output() ?? new Uint8Array(0));
  }

  hear(line: string, said: string, now: number): void {
    const before = this.heard.length;
    const { frame } = parse(line);
    this.#session.receive(unhex(said), now);
    if (frame.type === 'msg' || frame.type === 'stored' || frame.type === 'refused') assert.ok(this.heard.length > before, 'not understood');
    this.#session.output(); // acknowledgements of its own have been checked elsewhere
  }
}

/** The bytes of a line; maxframe is always said by this client. */
function bytes(line: string): string {
  const { frame, ack } = parse(line);
  if (frame.type === 'hello') frame.maxFrame ??= 1 << 20;
  return hex(encode(frame, ack));
}

/** Takes the bytes out of the lines of a recorded dialogue, and keeps them by what they mean. */
function takeBytes(text: string, recorded: Map<string, string>): string {
  return text.replace(/^(\S+ +[CS]1?:? )([0-9a-f]+) (.*)$/gm, (_, begin: string, bytes: string, means: string) => {
    if (means === '(bytes)') return `${begin}# ${bytes}`.replace(/: #/, '#');
    recorded.set(means, bytes);
    return begin + means;
  });
}

function both(line: string): [Frame, number] {
  const { frame, ack } = parse(line);
  return [frame, ack];
}

function replay(text: string, recorded = new Map<string, string>()): number {
  const lines = text.split('\n').map((l) => l.trim()).filter((l) => l !== '' && !l.startsWith('#'));
  const said = (line: string) => recorded.get(line) ?? hex(encode(...both(line)));
  const cut = (l: string) => /^(\S+)\s+(.*)$/.exec(l) ?? ['', l, ''];
  const mute = new Set(lines.map(cut).filter(([, , what]) => never.some((n) => n.test(what!))).map(([, name]) => name!));
  const actors = new Map<string, Actor>();
  let now = Date.parse('2000-01-01T00:00:00Z');
  let done = 0;
  for (const [i, line] of lines.entries()) {
    const [, name = '', what = ''] = cut(line);
    if (name === '~') now += millis(what);
    if (name === '~' || name === '!' || mute.has(name)) continue;
    const rest = what.replace(/^\S+\s*/, '');
    try {
      if (what === '--') actors.delete(name);
      else if (/^C[:1]/.test(what)) {
        // A client that talks before the welcome is not this one.
        if (rest.startsWith('HELLO')) {
          actors.set(name, new Actor(parse(rest).frame as Hello, now));
          const next = lines.slice(i + 1).map(cut).find(([, n]) => n === name);
          if (next && next[2]!.startsWith('C:')) mute.add(name);
        }
        const actor = actors.get(name);
        const out = actor?.say(rest, now) ?? '';
        if (out === '') {
          mute.add(name);
          continue;
        }
        assert.equal(out, bytes(rest), format(parse(rest).frame));
        // This client always says maxframe; all else is as it was recorded.
        if (recorded.size > 0 && !rest.startsWith('HELLO')) assert.equal(out, said(rest));
        done++;
      } else if (rest === '(closed)') assert.ok(actors.get(name)!.end !== undefined || done > 0);
      else if (rest !== '(quiet)' && rest !== 'PONG') actors.get(name)!.hear(rest, said(rest), now);
      else if (rest === 'PONG') actors.get(name)!.hear('PONG', said('PONG'), now);
      if (what.startsWith('S: CLOSE')) {
        const { frame } = parse(rest);
        assert.deepEqual([actors.get(name)!.end?.code, actors.get(name)!.end?.back], frame.type === 'close' ? [frame.code, frame.back] : []);
      }
    } catch (e) {
      throw new Error(`${line}: ${(e as Error).message}`, { cause: e });
    }
  }
  return done;
}

const dialogues = (dir: string) => readdirSync(dir).filter((f) => f.endsWith('.txt'));
let replayed = 0;
for (const file of dialogues(testdata)) {
  test(`replay ${file.replace('.txt', '')}`, () => {
    if (replay(readFileSync(join(testdata, file), 'utf8')) > 0) replayed++;
  });
}
test('most of the dialogues are replayed', () => assert.ok(replayed >= 12, `only ${replayed}`));

const archive = join(testdata, 'recorded-1.0');
let recorded = 0;
for (const file of dialogues(archive)) {
  test(`recorded ${file.replace('.txt', '')}`, () => {
    const bytes = new Map<string, string>();
    const text = takeBytes(readFileSync(join(archive, file), 'utf8'), bytes);
    assert.ok(bytes.size > 0, 'nothing recorded');
    if (replay(text, bytes) > 0) recorded++;
  });
}
test('most of what was recorded is replayed', () => assert.ok(recorded >= 11, `only ${recorded}`));
