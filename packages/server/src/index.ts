export { type ServerConfig, serverOptions, serverRelations } from './config.js';
export { type Server, startServer } from './server.js';
export { VERSION } from './version.js';
