/** Entry of the workflow bundle: the workflow types a control worker runs. */
export { poolWorkflow } from './pool/pool-workflow.ts';
export { workloadWorkflow } from './workload/workload-workflow.ts';
