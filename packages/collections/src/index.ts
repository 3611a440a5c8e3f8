export { ChurningMap } from './churning-map.js';
export { ChurningSet } from './churning-set.js';
