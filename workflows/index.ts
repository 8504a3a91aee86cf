/** Entry of the workflow bundle: the workflow types a control worker runs. */
export { workloadWorkflow } from './workload/workload-workflow.ts';
