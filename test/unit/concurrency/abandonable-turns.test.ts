import { describe, expect, it } from 'vitest';
import { AbandonableTurns } from '../../../concurrency/abandonable-turns.ts';

const never = new AbortController().signal;

describe('work of one key', () => {
  it('runs one at a time, in order, whatever the end of the one before', async () => {
    const turns = new AbandonableTurns();
    const seen: string[] = [];
    const first = Promise.withResolvers<void>();
    const failing = turns.run('key', async () => first.promise.then(() => Promise.reject(new Error('no'))), never);
    const next = turns.run('key', async () => seen.push('next'), never);
    const last = turns.run('key', async () => seen.push('last'), never);
    await turns.run('other', async () => seen.push('other'), never);
    expect(seen).toEqual(['other']);
    first.resolve();
    await expect(failing).rejects.toThrow('no');
    await Promise.all([next, last]);
    expect(seen).toEqual(['other', 'next', 'last']);
  });

  it('that was given up keeps nobody waiting, even if it never ends', async () => {
    const turns = new AbandonableTurns();
    const giveUp = new AbortController();
    const begun = Promise.withResolvers<void>();
    const hang = () => new Promise(() => begun.resolve());
    void turns.run('key', hang, giveUp.signal);
    await begun.promise;
    const next = turns.run('key', async () => 'next', never);
    giveUp.abort(new Error('enough'));
    expect(await next).toBe('next');
  });

  it('that is given up while it waits lets nobody past the one that runs', async () => {
    const turns = new AbandonableTurns();
    const first = Promise.withResolvers<string>();
    const seen: string[] = [];
    const running = turns.run('key', () => first.promise, never);
    const giveUp = new AbortController();
    const waiting = turns.run('key', async () => seen.push('waiting'), giveUp.signal);
    const last = turns.run('key', async () => seen.push('last'), never);
    giveUp.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(seen).toEqual([]);
    first.resolve('first');
    expect(await running).toBe('first');
    await last;
    expect(seen).toEqual(['last']);
  });
});
