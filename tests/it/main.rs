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
mod in_jaeger;
mod kstatus;
mod kstatus_kinds;
mod kstatus_objects;
mod live;
mod live_layouts;
mod live_metrics;
mod live_options;
mod live_outcomes;
mod live_steps;
mod live_stuck;
mod mute;
mod observer;
mod oracle;
mod otlp_json;
mod own_traces;
mod properties;
mod proxy;
mod recorder;
mod remarks;
mod rules_candidates;
mod rules_contexts;
mod rules_outcomes;
mod rules_owners;
mod rules_steps;
mod scenarios;
mod scene;
mod scripted_api_server;
mod scripted_receiver;
mod services;
mod settled;
mod steps;
mod tls_roots;
mod told;
mod twins;
mod variants;
mod watch_failures;
mod watch_live;
mod watch_reading;
mod watch_support;
mod widgets;
mod written;
