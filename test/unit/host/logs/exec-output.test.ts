import { describe, expect, it } from 'vitest';
import { MAX_LOG_MESSAGE } from '../../../../domain/logs/log-entry.ts';
import { writeExecOutput } from '../../../../host/logs/exec-output.ts';
import type { ExecOutput } from '../../../../ports/guest-agent.ts';

async function* outputOf(pieces: readonly ExecOutput[], failure?: Error): AsyncGenerator<ExecOutput> {
  yield* pieces;
  if (failure) throw failure;
}

const data = (stream: 'stdout' | 'stderr', text: string): ExecOutput => ({
  kind: 'data',
  stream,
  offset: 0,
  data: Buffer.from(text),
});

async function written(pieces: readonly ExecOutput[], failure?: Error) {
  const lines: string[] = [];
  const log = {
    write: (stage: string, level: string, message: string) => void lines.push(`${stage} ${level} ${message}`),
  };
  const tail = await writeExecOutput(log, 'build', outputOf(pieces, failure), 2).catch((error: unknown) => error);
  return { lines, tail };
}

describe('output of a process in a log', () => {
  it('is cut into lines, each stream for itself, and its last ones are told', async () => {
    const { lines, tail } = await written([
      data('stdout', 'a\nb'),
      data('stderr', 'oops\n'),
      data('stdout', 'c\nrest'),
    ]);
    expect(lines).toEqual(['build info a', 'build warn oops', 'build info bc', 'build info rest']);
    expect(tail).toEqual(['bc', 'rest']);
  });

  it('keeps a character whose bytes come apart, and cuts a line without end', async () => {
    const euro = Buffer.from('€');
    const piece = (bytes: Buffer): ExecOutput => ({ kind: 'data', stream: 'stdout', offset: 0, data: bytes });
    expect((await written([piece(euro.subarray(0, 1)), piece(euro.subarray(1))])).lines).toEqual(['build info €']);
    const { lines } = await written([data('stdout', 'x'.repeat(3 * MAX_LOG_MESSAGE + 1))]);
    expect(lines).toHaveLength(4);
  });

  it('marks what the guest dropped, and is written as far as it came where the channel is lost', async () => {
    const lost = new Error('lost');
    const { lines, tail } = await written([{ kind: 'gap', offset: 0, bytes: 7 }, data('stdout', 'half')], lost);
    expect(lines).toEqual(['build warn 7 bytes of output lost: its reader could not keep up', 'build info half']);
    expect(tail).toBe(lost);
  });
});
