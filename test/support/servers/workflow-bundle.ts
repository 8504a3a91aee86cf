/** `workflows/`, bundled once for a whole run: bundling takes a core more than a second, and every worker needs it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowBundle } from '@temporalio/worker';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { keptWorkflowBundle } from '../../../workers/control/kept-bundle.ts';

/** @returns the path of the bundle, which it makes in `directory` */
export async function makeWorkflowBundle(directory: string): Promise<string> {
  const path = join(directory, 'workflow-bundle.js');
  const { code } = await keptWorkflowBundle({ directory: join(readSetupRecord().cacheDir, 'workflows') });
  await writeFile(path, code);
  return path;
}

/** @param path of a bundle that `makeWorkflowBundle` has made */
export async function readWorkflowBundle(path: string): Promise<WorkflowBundle> {
  return { code: await readFile(path, 'utf8') };
}
