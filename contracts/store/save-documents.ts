/** What the object store and a host's spool hold of saved workspaces: docs/sessions/saves.md. */
import { z } from 'zod';
import { savePlaceOf } from '../../domain/session/head-rules.ts';
import { WORKSPACE_LIMITS } from '../../domain/session/workspace.ts';
import { VM_ID_PATTERN } from '../host/instance-record.ts';
import { isoTimeSchema, projectSchema, sha256Schema, threadSchema } from '../identifiers.ts';

/** A pack takes chunks until it has so many bytes; only one that holds a single large chunk is longer. */
export const PACK_BYTES = 8 * 1024 * 1024;
/** Packs of a save may hold so much beyond a few times what it needs; then the next one is whole, bytes. */
export const WASTE_BYTES = 64 * 1024 * 1024;
/** Largest pack, piece of a manifest, and tree that are read, bytes. */
export const MAX_PACK_BYTES = 16 * 1024 * 1024;
export const MAX_PIECE_BYTES = 8 * 1024 * 1024;
export const MAX_TREE_BYTES = 32 * 1024 * 1024;

/** Saves that a head remembers. */
export const KEPT_SAVES = 20;
/** Saves that a head has dropped, and whose objects are still to be deleted; what is too much is left to the repair. */
export const MAX_CONDEMNED = 500;
/** Names of packs that a head holds as garbage: some 40 bytes each. */
export const MAX_GARBAGE_PACKS = 20_000;
/** Paths that a tree lists of those that could not be saved. */
export const LISTED_SKIPPED = 100;

const MAX_PIECES = 100_000;
const MAX_PACKS = 50_000;
/** A path is at most 4096 bytes, in base64. */
const MAX_PATH_TEXT = 6_000;

const bytesSchema = z.int().min(0);
const countSchema = z.int().min(0).max(WORKSPACE_LIMITS.entries);
const epochSchema = z.int().min(0).max(999_999_999);
const turnSchema = z.int().min(0).max(999_999_999);
export const saltSchema = z.string().regex(/^[0-9a-f]{64}$/);
export const saveIdSchema = z
  .string()
  .max(40)
  .refine((id) => savePlaceOf(id) !== undefined, 'must be the id of a save');
const packNameSchema = z.string().regex(/^\d{1,9}-\d{1,9}-\d{1,9}-\d{1,9}$/);
const offsetSchema = z.int().min(0).max(MAX_PACK_BYTES);
const lengthSchema = z.int().min(1).max(MAX_PACK_BYTES);

const sessionSchema = z.strictObject({
  project: projectSchema,
  thread: threadSchema,
  incarnation: z.int().min(1).max(999_999_999),
});

/** Bytes of one zstd frame in a pack. */
export const framePlaceSchema = z.strictObject({ pack: packNameSchema, offset: offsetSchema, length: lengthSchema });
export type FramePlace = z.infer<typeof framePlaceSchema>;

const pieceSchema = z.strictObject({
  id: sha256Schema,
  bytes: z.int().min(1).max(MAX_PIECE_BYTES),
  place: framePlaceSchema,
});
const packSchema = z.strictObject({ name: packNameSchema, bytes: lengthSchema, sha256: sha256Schema });
export type PackInfo = z.infer<typeof packSchema>;

/** `trees/<saveId>.json`: one save. */
export const saveTreeSchema = z.strictObject({
  schemaVersion: z.literal(1),
  session: sessionSchema,
  epoch: epochSchema,
  turn: turnSchema,
  saveId: saveIdSchema,
  saltHex: saltSchema,
  consistency: z.enum(['quiesced', 'live']),
  at: isoTimeSchema,
  entries: countSchema,
  bytes: bytesSchema.max(WORKSPACE_LIMITS.bytes),
  skipped: z.strictObject({
    count: bytesSchema,
    first: z
      .array(
        z.strictObject({
          path: z.string().max(MAX_PATH_TEXT).meta({ description: 'Base64.' }),
          type: z.enum(['socket', 'pipe', 'device', 'mount']),
        }),
      )
      .max(LISTED_SKIPPED),
  }),
  /** Of the manifest, in order. */
  pieces: z.array(pieceSchema).min(1).max(MAX_PIECES),
  /** Everything that this save needs. */
  packs: z.array(packSchema).min(1).max(MAX_PACKS),
});
export type SaveTree = z.infer<typeof saveTreeSchema>;

const headSaveSchema = z.strictObject({ turn: turnSchema, saveId: saveIdSchema, treeSha256: sha256Schema });
export type HeadSave = z.infer<typeof headSaveSchema>;

const garbageSchema = z.array(packNameSchema).max(MAX_GARBAGE_PACKS);
/** `gone`: packs that the head's save before it needs, and it does not. */
const keptSaveSchema = z.strictObject({ ...headSaveSchema.shape, gone: garbageSchema.min(1).exactOptional() });
const condemnedSaveSchema = z.strictObject({ at: isoTimeSchema, saveId: saveIdSchema, packs: garbageSchema });

/**
 * `head.json`: who may save, the newest save, and what is garbage. `check`: SHA-256 of its canonical JSON without
 * `check`.
 */
export const saveHeadSchema = z.strictObject({
  schemaVersion: z.literal(1),
  session: sessionSchema,
  epoch: epochSchema,
  save: headSaveSchema.exactOptional(),
  saltHex: saltSchema,
  kept: z.array(keptSaveSchema).max(KEPT_SAVES),
  /** Dropped from `kept`, oldest first: their trees, and packs that only they need, are deleted later. */
  condemned: z.array(condemnedSaveSchema).min(1).max(MAX_CONDEMNED).exactOptional(),
  check: sha256Schema,
});
export type SaveHead = Omit<z.infer<typeof saveHeadSchema>, 'check' | 'schemaVersion'>;

/** How far the round through the saves of all sessions is; `after`: the last thread that was done, while it goes on. */
export const saveRepairSchema = z.strictObject({
  schemaVersion: z.literal(1),
  startedAt: isoTimeSchema,
  after: z.string().max(200).exactOptional(),
});

/** `placement.json` in the spool of a placement. */
export const spooledPlacementSchema = z.strictObject({
  schemaVersion: z.literal(1),
  session: sessionSchema,
  epoch: epochSchema,
  saltHex: saltSchema,
  /** Whether the head was seen to be of this placement: one that is absent afterwards was deleted. */
  hasClaimed: z.boolean(),
});
export type SpooledPlacement = z.infer<typeof spooledPlacementSchema>;

/** `<saveId>/save.json` in the spool of a placement, written last: with it, the save is whole. */
export const spooledSaveSchema = z.strictObject({
  schemaVersion: z.literal(1),
  saveId: saveIdSchema,
  /** The VM that it was taken from; absent where it was fetched for a restore. */
  vmId: z.string().regex(VM_ID_PATTERN).exactOptional(),
  newBytes: bytesSchema,
  treeSha256: sha256Schema,
});
export type SpooledNote = z.infer<typeof spooledSaveSchema>;

/** `<saveId>/uploaded.json` in the spool: the store has the whole save. */
export const uploadedSchema = z.strictObject({ schemaVersion: z.literal(1) });

/** A chunk in a line of a manifest, with its place; or a hole. The lines are entries as contracts/workspace-entries.ts has them. */
export const manifestChunkSchema = z.union([
  z.tuple([sha256Schema, z.int().min(1).max(WORKSPACE_LIMITS.chunkBytes), packNameSchema, offsetSchema, lengthSchema]),
  z.tuple([z.literal(''), z.int().min(1).max(WORKSPACE_LIMITS.bytes)]),
]);
export type ManifestChunk = z.infer<typeof manifestChunkSchema>;
