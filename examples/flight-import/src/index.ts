export { checkImport } from './check-import.js';
export { FlightTable } from './flight-table.js';
export { type ImportResult, importWorkflow, TASK_QUEUE } from './import-workflow.js';
