export { addToProject, type Change, createProject, ProjectError } from './project.js';
