export type { Change } from './change.js';
export { addToProject, createProject, ProjectError } from './project.js';
