/** Entry of the workflow bundle: the workflow types a control worker runs. */
export { maintenanceWorkflow } from './maintenance/maintenance-workflow.ts';
export { poolWorkflow } from './pool/pool-workflow.ts';
export { sessionWorkflow } from './session/session-workflow.ts';
export { workloadWorkflow } from './workload/workload-workflow.ts';
