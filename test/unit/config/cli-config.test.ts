import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findStack } from '../../../config/cli-config.ts';
import { KilnError } from '../../../domain/failures.ts';

const STACK = {
  pid: 4711,
  apiUrl: 'http://127.0.0.1:4800',
  token: 'a-token',
  temporal: { address: '127.0.0.1:7233', uiUrl: 'http://127.0.0.1:8233', namespace: 'default' },
  s3: { endpoint: 'http://127.0.0.1:7070', bucket: 'kiln' },
  hostId: 'dev-1',
};
const alive = () => true;
let root = '';

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kiln-cli-config-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function writeStack(home: string, content: unknown = STACK): string {
  mkdirSync(join(root, home), { recursive: true });
  const path = join(root, home, 'dev.json');
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

function failureOf(action: () => unknown): KilnError {
  try {
    action();
  } catch (error) {
    if (error instanceof KilnError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

describe('the stack of a command', () => {
  it('is the one of KILN_API_URL and KILN_TOKEN before any other', () => {
    writeStack('.kiln');
    const env = { KILN_API_URL: 'https://kiln.example/', KILN_TOKEN: 'given', KILN_HOME: '.kiln' };
    expect(findStack({ env, cwd: root, isAlive: alive })).toEqual({
      apiUrl: 'https://kiln.example',
      token: 'given',
      source: 'KILN_API_URL',
    });
  });

  it.each([
    [{ KILN_API_URL: 'http://a.example' }, 'KILN_TOKEN'],
    [{ KILN_TOKEN: 'given' }, 'KILN_API_URL'],
    [{ KILN_API_URL: 'http://a.example', KILN_TOKEN: '' }, 'KILN_TOKEN'],
  ])('needs both of them: %o', (env, missing) => {
    const error = failureOf(() => findStack({ env, cwd: root, isAlive: alive }));
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain(`without ${missing}`);
  });

  it('refuses what is no URL, by name', () => {
    const env = { KILN_API_URL: 'file:///etc/passwd', KILN_TOKEN: 'given' };
    const error = failureOf(() => findStack({ env, cwd: root, isAlive: alive }));
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain('KILN_API_URL');
  });

  it('is the one of KILN_HOME, absolute or relative to the current folder', () => {
    const path = writeStack('elsewhere');
    for (const KILN_HOME of [join(root, 'elsewhere'), 'elsewhere']) {
      const found = findStack({ env: { KILN_HOME }, cwd: root, isAlive: alive });
      expect(found).toEqual({ ...pick(STACK), source: path, local: { home: join(root, 'elsewhere'), stack: STACK } });
    }
  });

  it('is not looked for elsewhere where KILN_HOME has none', () => {
    writeStack('.kiln');
    const error = failureOf(() => findStack({ env: { KILN_HOME: 'empty' }, cwd: root, isAlive: alive }));
    expect(error.code).toBe('NOT_FOUND');
    expect(error.message).toContain('`kiln dev`');
  });

  it('is the nearest one upwards', () => {
    writeStack('.kiln', { ...STACK, token: 'outer' });
    writeStack('a/b/.kiln', { ...STACK, token: 'inner' });
    mkdirSync(join(root, 'a/b/c'), { recursive: true });
    const tokenIn = (folder: string) => findStack({ env: {}, cwd: join(root, folder), isAlive: alive }).token;
    expect([tokenIn('a/b/c'), tokenIn('a/b'), tokenIn('a')]).toEqual(['inner', 'inner', 'outer']);
  });

  it('names `kiln dev` where there is none', () => {
    const error = failureOf(() => findStack({ env: {}, cwd: root, isAlive: alive }));
    expect(error.code).toBe('NOT_FOUND');
    expect(error.message).toContain('`kiln dev`');
    expect(error.message).toContain('KILN_API_URL');
  });

  it('is said to be gone where its process is', () => {
    const path = writeStack('.kiln');
    const asked: number[] = [];
    const isAlive = (pid: number): boolean => {
      asked.push(pid);
      return false;
    };
    const error = failureOf(() => findStack({ env: {}, cwd: root, isAlive }));
    expect(asked).toEqual([4711]);
    expect(error.code).toBe('NOT_FOUND');
    expect(error.message).toContain(path);
    expect(error.message).toContain('4711');
    expect(error.message).toContain('`kiln dev`');
  });

  it('is recognised as alive by the process itself', () => {
    writeStack('.kiln', { ...STACK, pid: process.pid });
    expect(findStack({ env: {}, cwd: root }).token).toBe('a-token');
  });

  it.each(['', '{', '[]', '{"pid":1}', JSON.stringify({ ...STACK, pid: -1 })])(
    'refuses a broken dev.json: %s',
    (text) => {
      const path = writeStack('.kiln', text);
      const error = failureOf(() => findStack({ env: {}, cwd: root, isAlive: alive }));
      expect(error.code).toBe('CONFIG_INVALID');
      expect(error.message).toContain(path);
    },
  );
});

function pick({ apiUrl, token }: typeof STACK) {
  return { apiUrl, token };
}
