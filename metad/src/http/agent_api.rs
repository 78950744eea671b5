//! What vendors call. A vendor speaks for itself only; one that was shut out is not heard.

use super::State;
use super::caller::{Acting, refused};
use super::forward::Answer;
use super::gateway_api::not_here;
use super::route_of;
use crate::service::Metad;
use futures::future::FutureExt;
use std::sync::Arc;
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::{Heartbeat, JudgeRequest, RegisterReply, RegisterRequest};
use ullage_model::wire::enrol::EnrolRequest;
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes;
use ullage_transport::api::Api;
use ullage_transport::identity::{Identity, Peer};

/// Adds the calls of vendors.
pub(super) fn add(api: Api<State>) -> Api<State> {
    let register = route_of(routes::REGISTER);
    let api = api.call_with(register, move |state: State, caller, request: RegisterRequest| {
        let acting = Acting::of(&caller, register.callers);
        state
            .by_leader(register.path, acting, request, registered)
            .boxed()
    });
    let heartbeat = route_of(routes::HEARTBEAT);
    let api = api.call_with(heartbeat, move |state: State, caller, report: Heartbeat| {
        let acting = Acting::of(&caller, heartbeat.callers);
        let acting = acting.and_then(|acting| its_own(acting, report.vendor));
        state
            .by_leader(heartbeat.path, acting, report, |metad, _acting, report| {
                async move { metad.heartbeat(report).await }.boxed()
            })
            .boxed()
    });
    let judge = route_of(routes::JUDGE);
    let api = api.call_with(judge, move |state: State, caller, request: JudgeRequest| {
        async move {
            let acting = Acting::of(&caller, judge.callers);
            let answer = match acting.and_then(|acting| its_own(acting, request.vendor)) {
                Ok(_) => state.metad.judge(request).await.map_err(not_here),
                Err(refused) => Err(refused),
            };
            state.metrics.answered(judge.path, &answer);
            answer
        }
        .boxed()
    });
    enrol(api)
}

/// Who enrols has no certificate yet, or one that runs out: the request proves itself.
fn enrol(api: Api<State>) -> Api<State> {
    let route = route_of(routes::ENROL);
    api.call_with(route, move |state: State, caller, request: EnrolRequest| {
        async move {
            let acting = Acting::of(&caller, route.callers).and_then(|acting| {
                if !acting.forwarded && !state.admission.may_enrol(state.metad.clock().now()) {
                    return Err(MetadError::Overloaded);
                }
                // Before it is passed on: nobody makes the leader work who cannot prove a key.
                state.metad.check_enrolment(&request)?;
                Ok(acting)
            });
            let enrolled = state.by_leader(route.path, acting, request, |metad, _acting, request| {
                async move { metad.enrol(request).await }.boxed()
            });
            enrolled.await
        }
        .boxed()
    })
}

/// A vendor that is registered says anew what it offers, under its own key.
fn registered(metad: Arc<Metad>, acting: Acting, request: RegisterRequest) -> Answer<RegisterReply> {
    async move {
        let Peer::Known(Identity::Vendor(vendor)) = acting.who else {
            return Err(refused(format!("this call is not for {}", acting.who)));
        };
        // What was registered under an earlier leader must be known.
        metad.leading().await?;
        let row = metad.admitted_vendor(vendor)?;
        if row.public_key != request.public_key {
            return Err(refused(format!("this key is not {vendor}'s")));
        }
        metad.register(request).await
    }
    .boxed()
}

/// Refuses a vendor that speaks for another.
fn its_own(acting: Acting, vendor: VendorId) -> Result<Acting, MetadError> {
    if acting.who == Peer::Known(Identity::Vendor(vendor)) {
        Ok(acting)
    } else {
        Err(refused(format!("{} does not speak for {vendor}", acting.who)))
    }
}
