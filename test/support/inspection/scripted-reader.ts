/**
 * Replaces the process that reads folders, and does what the service path of a request says. So a test can have a
 * process that hangs, dies or lies.
 */
import { createInterface } from 'node:readline';
import { ownDataBytes } from '../../../inspection/process/own-data-bytes.ts';

const manifest = {
  language: 'node',
  hooks: { start: 'node a.js' },
  outputs: [],
  envRequired: [],
  health: { intervalMs: 1, timeoutMs: 1, failures: 1, startPeriodMs: 1 },
  resources: {},
  egress: [],
  installs: false,
};

const say = (reply: unknown) => process.stdout.write(`${JSON.stringify(reply)}\n`);
const kept: Buffer[] = [];
let count = 0;

const ACTS: Readonly<Record<string, (id: number) => void>> = {
  answer: (id) => {
    count += 1;
    say({ kind: 'inspected', id, manifest: { ...manifest, hooks: { start: `pid ${process.pid} count ${count}` } } });
  },
  spin: () => {
    for (;;);
  },
  hang: () => undefined,
  exit: () => process.exit(3),
  grow: () => {
    for (;;) kept.push(Buffer.alloc(8 * 1024 * 1024, 1));
  },
  'grow heap': () => {
    const all: object[] = [];
    for (;;) all.push({ all });
  },
  'no JSON': () => process.stdout.write('hello\n'),
  'another kind of thing': (id) => say({ kind: 'inspected', id, manifest: { ...manifest, more: 1 } }),
  'a code it may not name': (id) => say({ kind: 'refused', id, code: 'HOST_LOST', message: '', details: {} }),
  'an answer to nothing': (id) => say({ kind: 'inspected', id: id + 1, manifest }),
  'an answer to another question': (id) => say({ kind: 'packed', id, sha256: 'a'.repeat(64), bytes: 1 }),
  'ready again': () => say({ kind: 'ready', dataBytes: 1 }),
  'two answers': (id) => {
    say({ kind: 'inspected', id, manifest });
    say({ kind: 'inspected', id, manifest });
  },
  'a line without end': () => {
    const write = () => process.stdout.write('x'.repeat(1024 * 1024), write);
    write();
  },
  'out of memory by itself': (id) => say({ kind: 'exhausted', id }),
  'a full disk': (id) => say({ kind: 'failed', id, message: 'ENOSPC: no space left', errno: 'ENOSPC' }),
};

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const { id, servicePath }: { id: number; servicePath: string } = JSON.parse(line);
  ACTS[servicePath]?.(id);
});
lines.once('close', () => process.exit(0));
say({ kind: 'ready', dataBytes: ownDataBytes() });
