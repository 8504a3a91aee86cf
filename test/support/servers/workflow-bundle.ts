/** `workflows/`, bundled once for a whole run: each time takes more than a second of a core, and every worker needs one. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowBundle } from '@temporalio/worker';
import { bundleWorkflows } from '../../../temporal/workflow-bundle.ts';

/** @returns the path of the bundle, which is made in `directory` */
export async function makeWorkflowBundle(directory: string): Promise<string> {
  const path = join(directory, 'workflow-bundle.js');
  const { code } = await bundleWorkflows();
  await writeFile(path, code);
  return path;
}

/** @param path of a bundle that `makeWorkflowBundle` has made */
export async function readWorkflowBundle(path: string): Promise<WorkflowBundle> {
  return { code: await readFile(path, 'utf8') };
}
