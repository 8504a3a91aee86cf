import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  type Chunk,
  createWorkspaceCheck,
  type FolderEntry,
  WORKSPACE_LIMITS,
  withHolesJoined,
} from '../../../../domain/session/workspace.ts';

const owned = { uid: 0, gid: 0, mtimeNs: '0', mode: 0o644 };
const root: FolderEntry = { type: 'folder', path: '', ...owned };

it('holes that follow each other become one, and nothing else changes', () => {
  const chunk = fc.record({ id: fc.constantFrom('', '', 'a', 'b'), bytes: fc.integer({ min: 1, max: 9 }) });
  // A character for each byte: which chunk it comes from, or a hole.
  const textOf = (chunks: readonly Chunk[]) => chunks.map(({ id, bytes }) => (id || '.').repeat(bytes)).join('');
  fc.assert(
    fc.property(fc.array(chunk), (chunks) => {
      const joined = withHolesJoined(chunks);
      expect(textOf(joined)).toBe(textOf(chunks));
      expect(joined.filter(({ id }) => id !== '')).toEqual(chunks.filter(({ id }) => id !== ''));
      for (const [at, { id }] of joined.entries()) if (id === '') expect(joined[at + 1]?.id).not.toBe('');
    }),
  );
});

it('a file has a bounded number of chunks', () => {
  const chunks = Array.from({ length: WORKSPACE_LIMITS.fileChunks }, () => ({ id: 'a', bytes: 1 }));
  const wrong = (more: readonly Chunk[]) => {
    const check = createWorkspaceCheck();
    expect(check(root)).toBeUndefined();
    const all = [...chunks, ...more];
    return check({ type: 'file', path: 'f', ...owned, size: all.length, chunks: all });
  };
  expect(wrong([])).toBeUndefined();
  expect(wrong([{ id: 'a', bytes: 1 }])).toBe('has more chunks than a file may');
});
