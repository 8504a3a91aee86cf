import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodeCursor, encodeCursor } from '../../../contracts/api/cursor.ts';
import { advance, decodeLogCursor, encodeLogCursor, writerKey } from '../../../contracts/api/log-page.ts';
import { problem, problemSchema } from '../../../contracts/api/problem.ts';
import { MAX_ENV_LENGTH, workloadRequestSchema } from '../../../contracts/api/workload-request.ts';
import { workloadView, workloadViewSchema } from '../../../contracts/api/workload-view.ts';
import { canonicalHash, canonicalJson } from '../../../contracts/canonical-json.ts';
import { workloadStateSchema } from '../../../contracts/store/workload-documents.ts';
import { FAILURES, type FailureCode, failureKind } from '../../../domain/failures.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';

describe('canonical JSON', () => {
  it('is JSON of the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('does not depend on the order of keys', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const reversed = Object.fromEntries(Object.entries(value).reverse());
        expect(canonicalJson(reversed)).toBe(canonicalJson(value));
      }),
    );
  });

  it('differs where the value differs, and not where a field is absent or undefined', async () => {
    expect(canonicalJson({ a: 1, b: undefined })).toBe('{"a":1}');
    expect(await canonicalHash({ a: 1 })).not.toBe(await canonicalHash({ a: '1' }));
    expect(await canonicalHash({})).toBe('44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
  });
});

describe('cursors', () => {
  const schema = z.object({ after: z.string() });

  it('come back as they were', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 500 }), (after) => {
        expect(decodeCursor(schema, encodeCursor({ after }))).toEqual({ after });
      }),
    );
  });

  it('that nobody has made are refused with a code, whatever they are', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String(), fc.jsonValue().map(encodeCursor)), (text) => {
        try {
          expect(schema.safeParse(decodeCursor(schema, text)).success).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ code: 'SPEC_INVALID' });
        }
      }),
    );
    expect(() => decodeCursor(schema, 'a'.repeat(10_000))).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
  });

  it('of logs keep the position of every writer, and no more writers than there can be', () => {
    const entry = {
      epoch: 2,
      writer: 'host-1',
      n: 7,
      timestamp: '',
      stage: 'build',
      message: '',
      level: 'info',
    } as const;
    const positions = advance({ '1-control': 3 }, entry);
    expect(decodeLogCursor(encodeLogCursor(positions))).toEqual({ '1-control': 3, [writerKey(entry)]: 7 });
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`${n}-control`, 0]));
    for (const bad of [many, { control: 1 }, { '1-control': -1 }, { '1-control': 1.5 }]) {
      expect(() => decodeLogCursor(encodeCursor(bad))).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
    }
  });
});

describe('workload requests', () => {
  const accepts = (request: unknown) => workloadRequestSchema.safeParse(request).success;

  it('never let a path out of the project root', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', '..', '.', '', ' ', '...', '\u0000', '\\')), (parts) => {
        const servicePath = parts.join('/');
        const harmless =
          servicePath !== '' &&
          !servicePath.startsWith('/') &&
          !/[\u0000\\]/.test(servicePath) &&
          !parts.includes('..');
        expect(accepts({ servicePath })).toBe(harmless);
      }),
    );
  });

  it('bound the environment by number, names and length', () => {
    const env = (variables: number, length: number) =>
      Object.fromEntries(
        Array.from({ length: variables }, (_, n) => [`V${String(n).padStart(3, '0')}`, 'x'.repeat(length)]),
      );
    expect(accepts({ servicePath: 'a', env: env(100, 0) })).toBe(true);
    expect(accepts({ servicePath: 'a', env: env(101, 0) })).toBe(false);
    expect(accepts({ servicePath: 'a', env: env(1, MAX_ENV_LENGTH - 4) })).toBe(true);
    expect(accepts({ servicePath: 'a', env: env(1, MAX_ENV_LENGTH - 3) })).toBe(false);
    for (const name of ['', '1A', 'A-B', 'A=B', 'A B', 'Ä'])
      expect(accepts({ servicePath: 'a', env: { [name]: '' } })).toBe(false);
  });

  it('leave the guest its own ports', () => {
    for (const port of [53, 80, 443]) expect(accepts({ servicePath: 'a', port })).toBe(false);
    for (const port of [1, 8080, 65_535]) expect(accepts({ servicePath: 'a', port })).toBe(true);
  });
});

describe('the shape of a workload', () => {
  const createdAt = '2026-01-02T03:04:05.000Z';
  const endedAt = '2026-01-02T03:04:15.500Z';
  const failed: WorkloadState = {
    workloadId: 'a',
    deploymentId: 'd',
    servicePath: 'services/a',
    stage: 'failed',
    image: { name: 'node', digest: `sha256:${'0'.repeat(64)}` },
    vm: { hostId: 'h', epoch: 1, boot: 2, vmId: 'vm-1-2', pid: 7, port: 31_000, url: 'http://127.0.0.1:31000' },
    exit: { code: 1, signal: null, reason: 'exited' },
    failure: { code: 'SERVICE_EXITED', message: 'exit 1', stage: 'running', stack: 'Error: x' },
    notes: ['late'],
    unreleased: [{ name: 'vm', hostId: 'h', message: 'silent' }],
    moves: [{ seq: 1, at: endedAt, from: 'pending', to: 'failed', cause: 'x' }],
    vmReadyMs: 900,
    createdAt,
    updatedAt: endedAt,
  };

  it('tells everything of a state', () => {
    expect(workloadView(failed)).toMatchObject({
      id: 'a',
      deploymentId: 'd',
      stage: 'failed',
      containerId: 'vm-1-2',
      pid: 7,
      port: 31_000,
      image: `node@sha256:${'0'.repeat(64)}`,
      logs: [],
      logsTruncated: false,
      error: 'exit 1',
      failedStage: 'running',
      code: 'SERVICE_EXITED',
      stack: 'Error: x',
      exit: { code: 1, signal: null, reason: 'exited' },
      durationMs: 10_500,
      transitions: failed.moves,
      notes: ['late'],
    });
  });

  it('has no field without a value, and passes its own schema', () => {
    const {
      failure: _failure,
      exit: _exit,
      vm: _vm,
      image: _image,
      deploymentId: _id,
      vmReadyMs: _ms,
      ...bare
    } = failed;
    for (const state of [failed, { ...bare, stage: 'pending' as const, moves: [] }]) {
      const view = workloadView(state, { requestedImage: 'node:22' });
      expect(Object.values(view)).not.toContain(undefined);
      expect(workloadViewSchema.parse(view)).toEqual(view);
      expect(workloadStateSchema.parse(state)).toEqual(state);
    }
    expect(workloadView({ ...bare, stage: 'pending' }, { requestedImage: 'node:22' }).image).toBe('node:22');
    expect(workloadView({ ...bare, stage: 'running' })).not.toHaveProperty('durationMs');
  });
});

it('every code of the failure table makes a valid problem document with its own status', () => {
  for (const code of Object.keys(FAILURES) as FailureCode[]) {
    expect(problemSchema.parse(problem(code, 'detail'))).toMatchObject({ code, status: failureKind(code).status });
  }
});
