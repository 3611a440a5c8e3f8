export { type ServerConfig, serverOptions, serverRelations } from './config.js';
export { type Server, type StartServerOptions, startServer } from './server.js';
export { checkPort, PortTakenError } from './transport/check-port.js';
export { VERSION } from './version.js';
