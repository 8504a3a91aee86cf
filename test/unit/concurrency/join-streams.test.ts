import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joinStreams } from '../../../concurrency/join-streams.ts';

/** One of the two joined streams: `say` gives bytes to the join to read, `heard` holds what the join wrote. */
class Side extends Duplex {
  heard = Buffer.alloc(0);
  heardEnd = false;
  private wanted: (() => void) | undefined;

  constructor() {
    super({ allowHalfOpen: true, highWaterMark: 16 });
    this.on('error', () => undefined);
  }

  say(bytes: Buffer): void {
    if (!this.destroyed) this.push(bytes);
  }

  sayEnd(): void {
    if (!this.destroyed) this.push(null);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.heard = Buffer.concat([this.heard, chunk]);
    this.wanted = done;
    setImmediate(() => this.wanted?.());
  }

  override _final(done: () => void): void {
    this.heardEnd = true;
    done();
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 60; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const action = fc.record({
  by: fc.constantFrom('a' as const, 'b' as const),
  says: fc.oneof(
    { weight: 5, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 40 }) },
    { weight: 1, arbitrary: fc.constant('end' as const) },
  ),
  pauses: fc.boolean(),
});
const ending = fc.constantFrom('orderly' as const, 'close' as const, 'error' as const);

describe('two joined streams', () => {
  it('hear all of each other and both close, or both close where one breaks off, whatever was said before', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 12 }),
        fc.constantFrom('a' as const, 'b' as const),
        ending,
        async (actions, last, how) => {
          const sides = { a: new Side(), b: new Side() };
          const said = { a: Buffer.alloc(0), b: Buffer.alloc(0) };
          const ended = new Set<'a' | 'b'>();
          let counted = 0;
          joinStreams(sides.a, sides.b, (bytes) => {
            counted += bytes;
          });
          for (const { by, says, pauses } of actions) {
            if (ended.has(by)) continue;
            if (says === 'end') {
              ended.add(by);
              sides[by].sayEnd();
            } else {
              said[by] = Buffer.concat([said[by], says]);
              sides[by].say(Buffer.from(says));
            }
            if (pauses) await settled();
          }
          if (how === 'orderly') for (const by of ['a', 'b'] as const) if (!ended.has(by)) sides[by].sayEnd();
          if (how !== 'orderly') sides[last].destroy(how === 'error' ? new Error('reset') : undefined);
          await settled();
          if (how === 'orderly') expect(counted).toBe(said.a.length + said.b.length);
          for (const [by, other] of [
            ['a', 'b'],
            ['b', 'a'],
          ] as const) {
            expect(sides[by].destroyed).toBe(true);
            expect(said[other].subarray(0, sides[by].heard.length).equals(sides[by].heard)).toBe(true);
            if (how !== 'orderly') continue;
            expect(sides[by].heard.length).toBe(said[other].length);
            expect(sides[by].heardEnd).toBe(true);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('a side that said its end and then closes takes the other along, which would wait for ever', async () => {
    const [a, b] = [new Side(), new Side()];
    joinStreams(a, b);
    a.sayEnd();
    await settled();
    expect(b.heardEnd).toBe(true);
    expect(b.destroyed).toBe(false);
    a.destroy();
    await settled();
    expect(b.destroyed).toBe(true);
  });

  it('one that is closed before it is joined closes the other', async () => {
    for (const closed of [0, 1]) {
      const sides = [new Side(), new Side()] as const;
      sides[closed]?.destroy();
      await settled();
      joinStreams(...sides);
      await settled();
      expect(sides.map(({ destroyed }) => destroyed)).toEqual([true, true]);
    }
  });
});
