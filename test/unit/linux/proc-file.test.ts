import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readProcFile } from '../../../linux/proc-file.ts';

it.each([0, 1, 4095, 4096, 4097, 8192, 100_000])('a text of %d bytes is read whole', async (bytes) => {
  const directory = await mkdtemp(join(tmpdir(), 'kpf-'));
  try {
    const text = Array.from({ length: bytes }, (_, n) => String(n % 10)).join('');
    await writeFile(join(directory, 'file'), text);
    expect(await readProcFile(join(directory, 'file'))).toBe(text);
  } finally {
    await rm(directory, { recursive: true });
  }
});

it.each([1, 5_000, 60_000])('a command line with a word of %d bytes is read whole', async (bytes) => {
  const word = 'ü'.repeat(bytes);
  const child = spawn('sh', ['-c', 'read line', word], { stdio: ['pipe', 'ignore', 'ignore'] });
  try {
    await once(child, 'spawn');
    const text = await readProcFile(`/proc/${child.pid}/cmdline`);
    expect(text.split('\0')).toEqual(['sh', '-c', 'read line', word, '']);
  } finally {
    child.kill('SIGKILL');
  }
});

it('a process that is gone has no files', async () => {
  const child = spawn('true', { stdio: 'ignore' });
  await once(child, 'exit');
  await expect(readProcFile(`/proc/${child.pid}/cmdline`)).rejects.toThrow(/ENOENT|ESRCH/);
});
