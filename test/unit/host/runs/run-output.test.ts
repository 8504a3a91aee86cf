import { appendFile, mkdtemp, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRunOutput, type RunOutput } from '../../../../host/runs/run-output.ts';
import type { ExecOutput } from '../../../../ports/guest-agent.ts';

const LIMIT = { maxBytes: 64 * 1024 * 1024 };
let root: string;
let path: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kro-'));
  path = join(root, 'output');
});
afterEach(() => rm(root, { recursive: true, force: true }));

type Part = { readonly stream: 'stdout' | 'stderr'; readonly text: string } | { readonly gap: number };

const parts = fc.array(
  fc.oneof(
    fc.record({ stream: fc.constantFrom('stdout' as const, 'stderr' as const), text: fc.string({ minLength: 1 }) }),
    fc.record({ gap: fc.integer({ min: 1, max: 50 }) }),
  ),
  { maxLength: 30 },
);

/** @returns the parts one after the other, as an agent sends them */
function piecesOf(list: readonly Part[]): ExecOutput[] {
  let offset = 0;
  return list.map((part) => {
    const data = 'gap' in part ? Buffer.alloc(part.gap) : Buffer.from(part.text);
    const at = offset;
    offset += data.length;
    return 'gap' in part
      ? { kind: 'gap', offset: at, bytes: part.gap }
      : { kind: 'data', stream: part.stream, offset: at, data };
  });
}

/** Every byte with its stream and position: the same however it is cut into pieces. */
function bytesOf(pieces: readonly ExecOutput[]): string[] {
  return pieces.flatMap((piece) =>
    piece.kind === 'gap'
      ? Array.from({ length: piece.bytes }, (_, n) => `${piece.offset + n} gap`)
      : [...piece.data].map((byte, n) => `${piece.offset + n} ${piece.stream} ${byte}`),
  );
}

async function readAll(output: RunOutput, after = 0, step = 7): Promise<ExecOutput[]> {
  const found: ExecOutput[] = [];
  for (let at = after; ; ) {
    const pieces = (await output.read(at, step)) ?? [];
    const last = pieces.at(-1);
    if (last === undefined) return found;
    found.push(...pieces);
    at = last.offset + (last.kind === 'gap' ? last.bytes : last.data.length);
  }
}

describe('the output of a run', () => {
  it('is read back from any position, in whatever steps', async () => {
    await fc.assert(
      fc.asyncProperty(parts, fc.nat(200), fc.integer({ min: 1, max: 40 }), async (list, after, step) => {
        await rm(path, { force: true });
        const output = await openRunOutput(path, LIMIT);
        for (const piece of piecesOf(list)) await output.take(piece);
        const all = bytesOf(piecesOf(list));
        expect(output.end).toBe(all.length);
        expect(bytesOf(await readAll(output, after, step))).toEqual(all.slice(after));
        await output.close();
      }),
    );
  });

  it('goes on after a crash at any byte: what is repeated from its end fills it without a doubled byte', async () => {
    await fc.assert(
      fc.asyncProperty(parts, fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), async (list, cut, torn) => {
        await rm(path, { force: true });
        const pieces = piecesOf(list);
        const before = await openRunOutput(path, LIMIT);
        for (const piece of pieces) await before.take(piece);
        await before.close();
        const { size } = await stat(path);
        await truncate(path, Math.floor(size * cut));
        if (torn) await appendFile(path, Buffer.alloc(40));
        const output = await openRunOutput(path, LIMIT);
        expect(output.safeEnd).toBe(output.end);
        // The agent begins at a piece, perhaps earlier than what is safe.
        const from = pieces.findLastIndex(({ offset }) => offset <= output.end);
        for (const piece of pieces.slice(Math.max(0, from))) await output.take(piece);
        expect(bytesOf(await readAll(output))).toEqual(bytesOf(pieces));
        await output.close();
      }),
    );
  });

  it('beyond its limit is dropped, and the place is marked', async () => {
    const output = await openRunOutput(path, { maxBytes: 100 });
    const data = Buffer.alloc(60, 'x');
    for (const offset of [0, 60, 120]) await output.take({ kind: 'data', stream: 'stdout', offset, data });
    expect(output.end).toBe(180);
    await output.finish();
    await output.close();
    const again = await openRunOutput(path, { maxBytes: 100 });
    expect(bytesOf(await readAll(again)).filter((line) => line.endsWith('gap'))).toHaveLength(120);
    expect(again.end).toBe(180);
    await again.close();
  });

  it('a piece that does not follow is refused', async () => {
    const output = await openRunOutput(path, LIMIT);
    const ahead = output.take({ kind: 'data', stream: 'stdout', offset: 5, data: Buffer.from('x') });
    await expect(ahead).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(output.end).toBe(0);
    await output.close();
  });
});
