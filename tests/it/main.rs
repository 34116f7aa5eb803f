//! The integration tests, in one binary; the modules are the table of contents.

#![expect(clippy::unwrap_used, reason = "a failed test is how these helpers report")]

#[path = "../control_plane/mod.rs"]
mod control_plane;

mod architecture;
mod causes;
mod causes_burst;
mod causes_deleted;
mod causes_kinds;
mod causes_owners;
mod causes_pods;
mod causes_scaled;
mod config_file;
mod control_plane_itself;
mod converges;
mod daemon;
mod disclosed;
mod disorder;
mod export_grpc;
mod export_http;
mod export_support;
mod export_tls;
mod hostile;
mod kstatus;
mod kstatus_kinds;
mod kstatus_objects;
mod live;
mod live_layouts;
mod oracle;
mod recorder;
mod remarks;
mod rules_candidates;
mod rules_contexts;
mod rules_owners;
mod scenarios;
mod scene;
mod scripted_api_server;
mod scripted_receiver;
mod services;
mod settled;
mod told;
mod variants;
mod watch_failures;
mod watch_live;
mod watch_reading;
mod watch_support;
mod widgets;
mod written;
