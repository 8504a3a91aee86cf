import { z } from 'zod';
import { DIGEST_PATTERN } from '../../domain/names.ts';

/** The file that makes a folder of frozen guest files a template. It is written last. */
export const TEMPLATE_MANIFEST = 'manifest.json';

const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);

/** What a template was made from, as it is stored. */
const templateKeySchema = z.strictObject({
  imageDigest: z.string().regex(DIGEST_PATTERN),
  resources: z.strictObject({
    vcpus: z.int().min(1).max(256),
    memMib: z.int().min(16).max(1_048_576),
    diskMib: z.int().min(1).exactOptional(),
  }),
  /** The tenant: guests of other tenants may not be cloned from it. */
  projectId: z.string().min(1).max(256).exactOptional(),
  /** How its disks were made: clones make their disks the same way. */
  provisioner: z.string().min(1).max(32),
});

export const templateManifestSchema = z.strictObject({
  version: z.literal(1),
  templateId: z.string().regex(/^[a-z0-9-]{1,64}$/),
  key: templateKeySchema,
  imageName: z.string().min(1).max(128),
  /** Hash of everything that must be the same when a clone is restored. */
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  /**
   * The disk in the template's folder that its guest wrote to: a root disk (as qcow2, only the differences to the
   * image's), or the scratch disk of a guest whose root disk is the image itself.
   */
  disk: z.strictObject({ role: z.enum(['root', 'scratch']), name: fileName, format: z.enum(['raw', 'qcow2']) }),
  files: z
    .array(z.strictObject({ name: fileName, bytes: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) }))
    .min(3)
    .max(8),
  createdAt: z.iso.datetime(),
  /** How long it took to make, ms. */
  tookMs: z.int().min(0),
});

export type TemplateManifest = z.infer<typeof templateManifestSchema>;
