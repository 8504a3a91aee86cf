/** The rival's workflow: the only one of its bundle. */
import { proxyActivities } from '@temporalio/workflow';

export interface ExecActivities {
  exec(id: string): Promise<void>;
}

const { exec } = proxyActivities<ExecActivities>({ startToCloseTimeout: '1 minute', retry: { maximumAttempts: 1 } });

export async function execWorkflow(id: string): Promise<void> {
  await exec(id);
}
