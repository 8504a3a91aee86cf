import { describe, expect, it } from 'vitest';
import type { AgentChannel, ExecHandle, ExecOutput } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, runIn } from '../../support/guest/guest-under-test.ts';

/** Lines 0 … count-1, so that a missing or repeated byte shows. */
const numbers = (count: number): string => Array.from({ length: count }, (_, n) => `${n}\n`).join('');

async function until(handle: ExecHandle, text: string): Promise<string> {
  let seen = '';
  for await (const piece of handle.output) {
    if (piece.kind === 'data') seen += piece.data.toString();
    if (seen.includes(text)) return seen;
  }
  throw new Error(`ended without ${text}: ${seen}`);
}

async function allOf(handle: ExecHandle): Promise<ExecOutput[]> {
  const pieces: ExecOutput[] = [];
  for await (const piece of handle.output) pieces.push(piece);
  return pieces;
}

export function describeExecs(bench: Bench): void {
  describe('exec', () => {
    it('gives both streams apart, with one offset sequence, and the exit code', async () => {
      const handle = await bench
        .agent()
        .exec({ execId: freshId(), argv: ['sh', '-c', 'echo out; echo err >&2; exit 7'], output: 'wait' });
      expect(handle.pid).toBeGreaterThan(1);
      let next = 0;
      const seen = { stdout: '', stderr: '' };
      for await (const piece of handle.output) {
        expect(piece.offset).toBe(next);
        if (piece.kind !== 'data') throw new Error('a gap');
        next += piece.data.length;
        seen[piece.stream] += piece.data.toString();
      }
      expect(seen).toEqual({ stdout: 'out\n', stderr: 'err\n' });
      expect(await handle.exit).toEqual({ code: 7, signal: null, timedOut: false });
    });

    it('has the promised defaults of environment and working directory', async () => {
      const { stdout } = await runIn(bench.agent(), ['sh', '-c', 'pwd; echo $HOME $LANG; echo $PATH']);
      const [cwd, home, path] = stdout.split('\n');
      expect([cwd, home]).toEqual(['/workspace', '/root C.UTF-8']);
      expect(path).toMatch(/\/usr\/local\/sbin:\/usr\/local\/bin:\/usr\/sbin:\/usr\/bin:\/sbin:\/bin$/);
    });

    it('takes environment, working directory, user and stdin', async () => {
      const stdin = Buffer.from(numbers(100_000));
      const seen = await runIn(bench.agent(), ['sh', '-c', 'echo $A $HOME; pwd; id -u; wc -c'], {
        env: { A: 'b c', HOME: '/tmp' },
        cwd: '/tmp',
        stdin,
      });
      expect(seen.stdout.split('\n').map((line) => line.trim())).toEqual([
        'b c /tmp',
        '/tmp',
        '0',
        `${stdin.length}`,
        '',
      ]);
    });

    it('takes an environment larger than a frame', async () => {
      const value = 'x'.repeat(100_000);
      const { stdout } = await runIn(bench.agent(), ['sh', '-c', 'printf %s "$BIG" | wc -c'], { env: { BIG: value } });
      expect(stdout.trim()).toBe('100000');
    });

    it('stdin is empty and ended where none is given', async () => {
      expect(await runIn(bench.agent(), ['wc', '-c'])).toMatchObject({ stdout: '0\n', code: 0 });
    });

    it('reports a program that cannot run as a shell does', async () => {
      expect(await runIn(bench.agent(), ['no-such-program'])).toMatchObject({
        code: 127,
        stderr: expect.stringContaining('no-such-program'),
      });
      expect(await runIn(bench.agent(), ['/etc'])).toMatchObject({ code: 126 });
      expect(await runIn(bench.agent(), ['true'], { cwd: '/no/such' })).toMatchObject({ code: 126 });
    });

    it('reports death by a signal', async () => {
      const seen = await runIn(bench.agent(), ['sh', '-c', 'kill -SEGV $$']);
      expect(seen).toMatchObject({ code: null, signal: 'SIGSEGV', timedOut: false });
    });

    it('signals reach the whole group', async () => {
      const script = 'trap "exit 3" TERM; sleep 1000 & echo $!; wait';
      const handle = await bench.agent().exec({ execId: freshId(), argv: ['sh', '-c', script], output: 'wait' });
      const child = (await until(handle, '\n')).trim();
      await handle.signal('SIGTERM');
      expect(await handle.exit).toMatchObject({ code: 3 });
      await handle.signal('SIGKILL');
      // The child is dead at once, but the agent collects it a moment later.
      const untilGone = `while test -e /proc/${child}; do sleep 0.01; done; echo gone`;
      expect(await runIn(bench.agent(), ['sh', '-c', untilGone])).toMatchObject({ stdout: 'gone\n' });
    });

    it('a timeout kills the group and is told', async () => {
      const script = 'sleep 1000 & echo $!; sleep 1000';
      const seen = await runIn(bench.agent(), ['sh', '-c', script], { timeoutMs: 300 });
      expect(seen).toMatchObject({ code: null, signal: 'SIGKILL', timedOut: true });
      const { stdout } = await runIn(bench.agent(), ['sh', '-c', `cat /proc/${seen.stdout.trim()}/stat || echo gone`]);
      expect(stdout).toBe('gone\n');
    });

    it('ends although a daemon holds the output open', async () => {
      const seen = await runIn(bench.agent(), ['sh', '-c', 'sleep 1000 & echo done']);
      expect(seen).toMatchObject({ stdout: 'done\n', code: 0 });
    });

    it('a second start with the same id attaches to the first', async () => {
      const execId = freshId();
      const argv = ['sh', '-c', 'echo run >> /tmp/runs; wc -l < /tmp/runs; exit 5'];
      const first = await bench.agent().exec({ execId, argv, output: 'wait' }, { manualAck: true });
      const second = await bench.agent().exec({ execId, argv, output: 'wait' });
      expect(second.pid).toBe(first.pid);
      for (const handle of [first, second]) {
        expect((await allOf(handle)).map((piece) => piece.kind === 'data' && piece.data.toString())).toEqual(['1\n']);
        expect(await handle.exit).toMatchObject({ code: 5 });
      }
    });

    it('what was acknowledged is forgotten, and its place marked', async () => {
      const execId = freshId();
      const argv = ['printf', '0123456789'];
      const handle = await bench.agent().exec({ execId, argv, output: 'wait' }, { manualAck: true });
      await handle.exit;
      handle.acknowledge(4);
      const again = await (await bench.reattach()).attachExec(execId);
      expect(await allOf(again)).toEqual([
        { kind: 'gap', offset: 0, bytes: 4 },
        { kind: 'data', stream: 'stdout', offset: 4, data: Buffer.from('456789') },
      ]);
    });

    it('an unknown id is NOT_FOUND', async () => {
      await expect(bench.agent().attachExec('never-started')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });

    it('lists what runs and what ended', async () => {
      const [running, over] = [freshId(), freshId()];
      const handle = await bench.agent().exec({ execId: running, argv: ['sleep', '1000'], output: 'ring' });
      await runIn(bench.agent(), ['sh', '-c', 'exit 4'], { execId: over });
      const listed = await bench.agent().listExecs();
      expect(listed.find(({ execId }) => execId === running)).toEqual({ execId: running, pid: handle.pid });
      expect(listed.find(({ execId }) => execId === over)).toMatchObject({ exit: { code: 4, signal: null } });
      await handle.signal('SIGKILL');
      await handle.exit;
    });

    it('forty at once', async () => {
      const all = Array.from({ length: 40 }, (_, n) => runIn(bench.agent(), ['sh', '-c', `echo ${n}; exit ${n}`]));
      const seen = await Promise.all(all);
      expect(seen.map(({ stdout, code }) => `${stdout.trim()} ${code}`)).toEqual(seen.map((_, n) => `${n} ${n}`));
    });
  });

  describe('output across attaches', () => {
    it('nothing is lost in wait mode, whatever the moments of leaving', async () => {
      const execId = freshId();
      const expected = numbers(300_000);
      let agent = bench.agent();
      await agent.exec({ execId, argv: ['node', '-e', LINES], output: 'wait', bufferBytes: 128 * 1024 });
      let seen = '';
      for (let attach = 0; seen.length < expected.length; attach += 1) {
        const handle = await agent.attachExec(execId, { fromOffset: seen.length, manualAck: true });
        const enough = seen.length + 150_000 + attach * 1000;
        for await (const piece of handle.output) {
          if (piece.kind !== 'data') throw new Error(`a gap at ${piece.offset}`);
          expect(piece.offset).toBe(seen.length);
          seen += piece.data.toString();
          handle.acknowledge(seen.length);
          if (seen.length > enough && seen.length < expected.length) break;
        }
        agent = await bench.reattach();
      }
      expect(seen === expected).toBe(true);
      const last = await agent.attachExec(execId, { fromOffset: seen.length });
      expect(await last.exit).toEqual({ code: 0, signal: null, timedOut: false });
    });

    it('a process in wait mode stands still while nobody acknowledges', async () => {
      const execId = freshId();
      const mark = `/tmp/mark-${execId}`;
      const script = `head -c 1000000 /dev/zero; echo done > ${mark}`;
      const limits = { output: 'wait', bufferBytes: 64 * 1024 } as const;
      const handle = await bench.agent().exec({ execId, argv: ['sh', '-c', script], ...limits }, { manualAck: true });
      let bytes = 0;
      const reader = handle.output[Symbol.asyncIterator]();
      while (bytes < 32 * 1024) {
        const { value } = await reader.next();
        if (value?.kind === 'data') bytes += value.data.length;
      }
      expect(await runIn(bench.agent(), ['test', '-e', mark])).toMatchObject({ code: 1 });
      const rest = await (await bench.reattach()).attachExec(execId, { fromOffset: bytes });
      for await (const piece of rest.output) if (piece.kind === 'data') bytes += piece.data.length;
      expect(bytes).toBe(1_000_000);
      expect(await rest.exit).toMatchObject({ code: 0 });
    });

    it('ring mode never blocks the process and marks what it dropped', async () => {
      const execId = freshId();
      const expected = numbers(300_000);
      const agent = bench.agent();
      const first = await agent.exec({ execId, argv: ['node', '-e', LINES], output: 'ring', bufferBytes: 64 * 1024 });
      // Nobody reads the output: with the window and the buffer full, the process must still end.
      const unread = bench.reattach();
      await expect(first.exit).rejects.toMatchObject({ code: 'AGENT_LOST' });
      const next = await unread;
      await waitForEnd(next, execId);
      const handle = await next.attachExec(execId, { fromOffset: 10 });
      const [gap, ...pieces] = await allOf(handle);
      if (gap?.kind !== 'gap') throw new Error('no gap');
      expect(gap.offset).toBe(10);
      const kept = pieces.map((piece) => (piece.kind === 'data' ? piece.data.toString() : '?')).join('');
      expect(kept).toBe(expected.slice(10 + gap.bytes));
      expect(kept.length).toBeGreaterThan(16 * 1024);
      expect(await handle.exit).toMatchObject({ code: 0 });
    });

    it('an offset beyond the output is a conflict', async () => {
      const execId = freshId();
      await runIn(bench.agent(), ['echo', 'x'], { execId });
      await expect(bench.agent().attachExec(execId, { fromOffset: 1000 })).rejects.toMatchObject({ code: 'CONFLICT' });
    });
  });
}

/** Prints `numbers(300_000)` in pieces, so that pipes fill and drain. */
const LINES = `
const fs = require('node:fs');
let text = '';
for (let n = 0; n < 300000; n += 1) {
  text += n + '\\n';
  if (text.length > 5000) { fs.writeSync(1, text); text = ''; }
}
fs.writeSync(1, text);
`;

/** Waits for the exit; all output stays available for later readers. */
async function waitForEnd(agent: AgentChannel, execId: string): Promise<void> {
  const watcher = await agent.attachExec(execId, { manualAck: true });
  for await (const _ of watcher.output) break;
  await watcher.exit;
}
