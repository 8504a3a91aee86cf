import { describe, expect, it } from 'vitest';
import { SingleFlight, singleFlight } from '../../../concurrency/single-flight.ts';

describe('work of one key', () => {
  it('is shared by all who ask while it is under way, and done again for who asks later', async () => {
    const flights = new SingleFlight<number>();
    const first = Promise.withResolvers<void>();
    let begun = 0;
    const work = async () => {
      begun++;
      await first.promise;
      return begun;
    };
    const both = [flights.run('key', work), flights.run('key', work)];
    expect(flights.underWay('key')).toBe(both[0]);
    expect(await flights.run('other', async () => 7)).toBe(7);
    first.resolve();
    expect(await Promise.all(both)).toEqual([1, 1]);
    expect(flights.underWay('key')).toBeUndefined();
    expect(await flights.run('key', work)).toBe(2);
  });

  it('that fails fails for all of them, and is not remembered', async () => {
    const flights = new SingleFlight<string>();
    const fail = () => Promise.reject(new Error('no'));
    const both = [flights.run('key', fail), flights.run('key', async () => 'not begun')];
    for (const each of both) await expect(each).rejects.toThrow('no');
    expect(await flights.run('key', async () => 'yes')).toBe('yes');
  });
});

it('work without a key is shared as well, with the arguments of who asked first', async () => {
  const seen: number[] = [];
  const shared = singleFlight(async (value: number) => {
    seen.push(value);
    return value;
  });
  expect(await Promise.all([shared(1), shared(2)])).toEqual([1, 1]);
  expect(await shared(3)).toBe(3);
  expect(seen).toEqual([1, 3]);
});
