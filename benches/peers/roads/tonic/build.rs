//! The service of the race: unary calls and a stream of messages one way, as `protoc` would describe it.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::Body")
            .output_type("crate::Body")
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .name("Race")
        .package("race")
        .method(method("ask", "Ask").build())
        .method(method("flood", "Flood").client_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}
