// The seam between FAS and this library: the only file that may name types of the FAS Assertion SDK.
//
// The SDK is not public, so nothing of it is guessed here: not a namespace, not an interface, not a signature, not how
// a refusal is reported or a plug-in is registered. This file compiles and is tested without the SDK. What follows is
// what a developer with the SDK at hand does, in this order.
//
//  1. Install the SDK's own sample plug-in unchanged, as its Readme.txt says, and see a launch succeed with it. Its
//     sample accepts anything: never leave it in production.
//  2. Copy the sample's project. Add the *.cs files of this directory to it, or a reference to EvidencePlugin.dll, and
//     the reference System.Runtime.Serialization. C# 5 and .NET Framework 4.5 or newer are enough.
//  3. Find the method (or methods) of the sample that FAS calls with the evidence. StoreFront's public documentation
//     says what FAS has been given by then: UPN, SID, rule, security context, disposition, and a list of pairs of type
//     and bytes. Map each to the argument of the same name of Decide below; leave out what the SDK does not pass.
//     Pass the bytes as they are: no decoding, no trimming.
//  4. Keep one EvidencePlugin for the life of the process, in a static field.
//  5. Where the SDK's method must say yes or no, do as shown:
//
//         EvidenceAnswer answer = Plugin.Decide(upn, sid, rule, securityContext, disposition, phase, evidence);
//         if (!answer.Allowed) { /* refuse, in the SDK's own way */ }
//         /* go on, with answer.Rule and answer.SecurityContext where they are not null */
//
//     Refuse in the way that the SDK's Readme prescribes, with nothing but answer.Reason and answer.DecisionId in the
//     text. There must be no other path to "go on": no catch block, no default, no cache.
//  6. Build with install\Build-EvidencePlugin.ps1 and go on with install\Readme.txt.
//
// To be checked against the SDK's Readme, because it could not be known here:
//   - which method is called at sign-in (prepare) and at launch (assert), and whether it can tell the two apart; if it
//     cannot, pass null as the phase;
//   - whether the SID comes as a string or as a SecurityIdentifier (then pass sid.Value), and the type of the pairs;
//   - whether a rule, or a security context, may be answered by the plug-in at all; where it may not and the service
//     names one (answer.Rule != null), refuse: going on with another rule than the decided one is not what was allowed;
//   - what a thrown exception means to FAS. Decide never throws, but code around it may;
//   - how long FAS waits for a plug-in: DeadlineMilliseconds of the settings must be less;
//   - whether calls come from several threads at a time (Decide may be called so), and under which account: that
//     account needs the private key of the client certificate and the right to read the settings file;
//   - which version of .NET Framework loads the plug-in, whether it must be signed, and how it is registered.

using System;
using System.Collections.Generic;
using System.IO;

namespace LogonEvidence
{
    /// <summary>What the SDK's method calls. Nothing here throws, and nothing here says yes by itself.</summary>
    public sealed class EvidencePlugin
    {
        readonly IEvidenceDecider _decider;

        /// <summary>With the settings file that Install-EvidencePlugin.ps1 writes.</summary>
        public EvidencePlugin()
            : this(new EvidenceDecider(StandardSettings(), new DecisionLog()))
        {
        }

        public EvidencePlugin(IEvidenceDecider decider)
        {
            _decider = decider;
        }

        public static string StandardSettings()
        {
            return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.CommonApplicationData),
                "LogonEvidence", "EvidencePlugin.xml");
        }

        /// <summary>Everything but <paramref name="upn"/> and <paramref name="evidence"/> may be null.</summary>
        public EvidenceAnswer Decide(
            string upn,
            string sid,
            string rule,
            string securityContext,
            string disposition,
            string phase,
            IEnumerable<KeyValuePair<string, byte[]>> evidence)
        {
            try
            {
                EvidenceAnswer answer = _decider.Decide(new EvidenceQuestion
                {
                    Upn = upn,
                    Sid = sid,
                    Rule = rule,
                    SecurityContext = securityContext,
                    Disposition = disposition,
                    Phase = phase,
                    Evidence = evidence == null ? null : new List<KeyValuePair<string, byte[]>>(evidence),
                });
                return answer ?? EvidenceAnswer.Denied(Failure.InternalError, null, null, "There was no answer.");
            }
            catch (Exception error)
            {
                return EvidenceAnswer.Denied(Failure.InternalError, null, null, error.GetType().Name);
            }
        }
    }
}
