import { expect, it } from 'vitest';
import type { RunOutput } from '../../../../host/runs/run-output.ts';
import { pumpRunOutput } from '../../../../host/runs/run-output-pump.ts';
import type { ExecOutput } from '../../../../ports/guest-agent.ts';

/** Output whose syncs end when the test says so. */
class HeldOutput {
  end = 0;
  safeEnd = 0;
  readonly syncs: (() => void)[] = [];

  async take(piece: ExecOutput): Promise<void> {
    this.end = piece.offset + (piece.kind === 'gap' ? piece.bytes : piece.data.length);
  }

  async sync(): Promise<number> {
    const { end } = this;
    await new Promise<void>((resolve) => this.syncs.push(resolve));
    this.safeEnd = end;
    return end;
  }

  read: RunOutput['read'] = async () => [];
  finish = async () => undefined;
  close = async () => undefined;
}

it('takes no more than may be unsafe, syncs what came during a sync, and acknowledges all of it', async () => {
  const output = new HeldOutput();
  const acknowledged: number[] = [];
  async function* pieces(): AsyncIterable<ExecOutput> {
    yield { kind: 'data', stream: 'stdout', offset: 0, data: Buffer.alloc(10) };
    yield { kind: 'data', stream: 'stdout', offset: 10, data: Buffer.alloc(20) };
    yield { kind: 'data', stream: 'stdout', offset: 30, data: Buffer.alloc(1) };
  }
  const handle = { output: pieces(), acknowledge: (offset: number) => void acknowledged.push(offset) };
  const done = pumpRunOutput(handle, output, { maxUnsafeBytes: 15 });
  // The first sync covers one piece; the second piece alone is more than may be unsafe.
  for (const end of [30, 30, 31]) {
    await expect.poll(() => output.syncs.length, { interval: 1 }).toBe(1);
    await expect.poll(() => output.end, { interval: 1 }).toBe(end);
    output.syncs.pop()?.();
  }
  await done;
  expect(acknowledged).toEqual([10, 30, 31]);
});

it('ends with the error of a sync, also of the last', async () => {
  const output = new HeldOutput();
  output.sync = async () => {
    throw new Error('the disk is gone');
  };
  async function* pieces(): AsyncIterable<ExecOutput> {
    yield { kind: 'data', stream: 'stdout', offset: 0, data: Buffer.alloc(10) };
  }
  const handle = { output: pieces(), acknowledge: () => undefined };
  await expect(pumpRunOutput(handle, output, { maxUnsafeBytes: 100 })).rejects.toThrow('the disk is gone');
});
