import { z } from 'zod';
import { DIGEST_PATTERN } from '../../domain/names.ts';

/** The file that makes a folder of copied disks a checkpoint. It is written last. */
export const CHECKPOINT_MANIFEST = 'manifest.json';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const disk = z.strictObject({
  serial: z.string().regex(/^[a-z0-9-]{1,20}$/),
  name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/),
  format: z.enum(['raw', 'qcow2']),
  /** Whether the file only holds the differences to the image's root file system. */
  overImage: z.boolean(),
  bytes: z.int().min(0),
  /** Hash of the positions and contents of its 64 KiB blocks that are not all zeros. */
  sha256,
});

export const checkpointManifestSchema = z.strictObject({
  version: z.literal(1),
  checkpointId: z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/),
  vmId: z.string().min(1).max(64),
  /** Image that the disks belong to: with another root file system or kernel they would be useless. */
  imageDigest: z.string().regex(DIGEST_PATTERN),
  kernelSha256: sha256,
  rootfsSha256: sha256,
  resources: z.strictObject({
    vcpus: z.int().min(1),
    memMib: z.int().min(16),
    diskMib: z.int().min(1).exactOptional(),
  }),
  disks: z.array(disk).min(2).max(3),
  createdAt: z.iso.datetime(),
});

export type CheckpointManifest = z.infer<typeof checkpointManifestSchema>;
