//! The formation for Graphviz: `matriarchctl topology --dot | dot -Tsvg`.
//!
//! Regions and groups are boxes, arrows point where the edge's words point:
//! from a replica to its source, from the coordinator to a routed member, from
//! a store to the region it votes for. Dashed boxes are stale or were not seen.

use super::tree::role_text;
use super::{Edge, Graph, GroupNode, MemberNode, Node, RegionNode};
use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;
use std::fmt::Write;

impl Graph {
    pub fn dot(&self) -> String {
        let mut out = format!("digraph {} {{\n", quoted(&self.formation));
        out.push_str("  rankdir=RL; compound=true; node [shape=box];\n");
        for (at, region) in self.regions() {
            self.region_box(at, region, &mut out);
        }
        for at in self.net.node_indices() {
            if let Node::Store(store) = &self.net[at] {
                let label = quoted(&format!("store {}", store.site));
                line(&mut out, format_args!("  {} [label={label}, shape=cylinder];", id(at)));
            }
        }
        for edge in self.net.edge_references() {
            let style = match edge.weight() {
                Edge::BelongsTo => continue,
                Edge::StreamsFrom => "",
                Edge::RoutesTo => " [style=dashed, color=blue]",
                Edge::VotesFor => " [style=dotted]",
            };
            let (from, to) = (id(edge.source()), id(edge.target()));
            line(&mut out, format_args!("  {from} -> {to}{style};"));
        }
        out.push_str("}\n");
        out
    }

    fn region_box(&self, at: NodeIndex, region: &RegionNode, out: &mut String) {
        let style = if region.is_stale { "dashed" } else { "solid" };
        let label = quoted(region.name.as_str());
        line(out, format_args!("  subgraph cluster_{} {{ style={style}; label={label};", id(at)));
        // A box is no node: edges to the region end at this point inside it.
        line(out, format_args!("    {} [shape=point, label=\"\"];", id(at)));
        for (group_at, group) in self.groups(at) {
            self.group_box(group_at, group, region, out);
        }
        out.push_str("  }\n");
    }

    fn group_box(&self, at: NodeIndex, group: &GroupNode, region: &RegionNode, out: &mut String) {
        let label = quoted(&format!("group {}", group.group));
        line(out, format_args!("    subgraph cluster_{} {{ label={label};", id(at)));
        line(out, format_args!("      {} [shape=point, label=\"\"];", id(at)));
        for (member_at, member) in self.members(at) {
            let label = quoted(&caption(member, region));
            let bold = if member.is_leader { ", style=bold" } else { "" };
            line(out, format_args!("      {} [label={label}{bold}];", id(member_at)));
        }
        out.push_str("    }\n");
    }
}

fn caption(member: &MemberNode, region: &RegionNode) -> String {
    let state = member.facts.known().and_then(|facts| facts.state.as_deref()).unwrap_or("?");
    format!("{}\n{}, {state}", member.who.name, role_text(member.role(region)))
}

/// Names may hold anything; numbers of nodes are safe words.
fn id(at: NodeIndex) -> String {
    format!("n{}", at.index())
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    writeln!(out, "{text}").expect("a String takes every write");
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{g, region, route, scene, standby};
    use super::super::{Graph, SiteScene};
    use crate::Seen;

    #[test]
    fn every_edge_but_belonging_is_drawn_and_names_are_quoted() {
        let mut seen = scene(&[region("a\"", &[g(0), g(1)], 2), standby("b", &[g(0), g(1)], 1)]);
        seen.routes = Seen::Known(vec![route(1, "a\"-1-0")]);
        seen.sites = vec![SiteScene { name: "w".into(), vote: Seen::Known(Some("b".into())) }];
        let text = Graph::build(&seen).dot();
        assert_eq!(text.matches("->").count(), 6, "{text}");
        assert_eq!(text.matches("style=dashed, color=blue").count(), 1);
        assert_eq!(text.matches("style=dotted").count(), 1);
        assert!(text.contains("label=\"a\\\"\";"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
