import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { kiln } from '../../support/gateway/cli-fixtures.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kiln-cli-deploy-'));
  for (const folder of ['service', 'temp']) mkdirSync(join(root, folder));
  writeFileSync(join(root, 'service', 'server.js'), '');
  vi.stubEnv('TMPDIR', join(root, 'temp'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

const notStored = () => Promise.reject(new KilnError('NOT_FOUND', 'There are no such sources.'));
const deploy = () => ['deploy', join(root, 'service'), '--id', 'hello-1'];

describe('kiln deploy at Ctrl-C', () => {
  it('is interrupted while it packs, and leaves no files behind', async () => {
    const { stderr, exitCode } = await kiln(deploy(), { interrupt: AbortSignal.abort() });
    expect([stderr, exitCode]).toEqual(['Interrupted; no workload was made.\n', 130]);
    expect(readdirSync(join(root, 'temp'))).toEqual([]);
  });

  it('is interrupted while it uploads, which is no defect', async () => {
    const ctrlC = new AbortController();
    const uploadSource = async () => {
      ctrlC.abort();
      throw ctrlC.signal.reason;
    };
    const api = { getSource: notStored, uploadSource };
    const { stderr, exitCode } = await kiln(deploy(), { api, interrupt: ctrlC.signal });
    expect(stderr).toContain('no workload was made');
    expect(stderr).not.toContain('INTERNAL');
    expect(exitCode).toBe(130);
    expect(readdirSync(join(root, 'temp'))).toEqual([]);
  });

  it('makes no workload of files that are stored already', async () => {
    const ctrlC = new AbortController();
    const createWorkload = vi.fn();
    const getSource = async () => {
      ctrlC.abort();
      return { sha256: '0'.repeat(64), bytes: 1, files: 1 };
    };
    const { exitCode } = await kiln(deploy(), { api: { getSource, createWorkload }, interrupt: ctrlC.signal });
    expect(exitCode).toBe(130);
    expect(createWorkload).not.toHaveBeenCalled();
  });
});
